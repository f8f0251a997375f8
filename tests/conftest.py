"""Strictness as taste: promotions raise, warnings are errors, two CPU devices."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("NPROC", "2")

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)
PROGRAMS = "JAXNAS_TESTS_PROGRAMS"  # a folder: what several tests compile is compiled once a session
if PROGRAMS not in os.environ:
    os.environ[PROGRAMS] = tempfile.mkdtemp(prefix="jaxnas-tests-")
    atexit.register(shutil.rmtree, os.environ[PROGRAMS], ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", os.environ[PROGRAMS])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory and program cache of its own; what a search sets in this process is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NPROC", os.environ.get("NPROC", "2"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)  # the search sets it
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def key():
    return jax.random.key(0)

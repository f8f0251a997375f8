"""Strictness as taste: promotions raise, warnings are errors, two CPU devices."""

import os

os.environ.setdefault("NPROC", "2")

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory and program cache of its own; what a search sets in this process is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NPROC", os.environ.get("NPROC", "2"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def key():
    return jax.random.key(0)

"""Strictness as taste: promotions raise, warnings are errors, two CPU devices; how tests are compiled."""

import atexit
import gc
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("NPROC", "2")

import jax
import pytest
from jax._src import compiler  # JAX's one place for XLA's options; it has no public one

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)

from tests.helpers import UNOPTIMIZED  # noqa: E402 (it compiles something, for two devices)

gc.set_threshold(50_000, 20, 100)  # seldom: looking through all of JAX's objects is a tenth of the time

PROGRAMS = "JAXNAS_TESTS_PROGRAMS"  # a folder: what several tests compile is compiled once a session
if PROGRAMS not in os.environ:
    os.environ[PROGRAMS] = tempfile.mkdtemp(prefix="jaxnas-tests-")
    atexit.register(shutil.rmtree, os.environ[PROGRAMS], ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", os.environ[PROGRAMS])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

TESTS = Path(__file__).parent
# What needs no search, no training and no browser; `pytest -m pure` takes a minute or two.
PURE = (
    *("config", "data", "spaces", "training/test_task.py"),
    *(
        f"report/test_{name}.py"
        for name in ("arms", "drawing", "learning", "pictures", "report", "statistics")
    ),
    *(f"runs/test_{name}.py" for name in ("files", "ledger", "provenance")),
    *("test_floors.py", "test_masks.py", "test_memory.py", "test_planning.py", "test_rewards.py"),
)
# The files that take longest, which begin first, so that no worker has one left when the others are done.
LONGEST = (
    *("evaluators/test_trained.py", "commands/test_cli.py", "runs/test_run.py", "networks/test_nasnet.py"),
    *("test_loop.py", "controllers/test_contract.py", "runs/test_seeds.py", "networks", "export"),
    *("commands/test_retrain.py", "evaluators", "test_docs.py", "commands/test_sample.py", "controllers"),
)


def is_among(path: Path, names: tuple[str, ...]) -> int | None:
    """The first of the files and folders that is the file or has it, by its number."""
    return next((i for i, name in enumerate(names) if path.is_relative_to(TESTS / name)), None)


def pytest_configure(config):
    missing = [name for name in PURE + LONGEST if not (TESTS / name).exists()]
    if missing:
        raise pytest.UsageError(f"tests/conftest.py names what is not there: {', '.join(missing)}")
    config.option.loadscopereorder = False  # or xdist begins with the files of most tests


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: len(LONGEST) if (i := is_among(item.path, LONGEST)) is None else i)
    for item in items:
        if is_among(item.path, PURE) is not None and item.get_closest_marker("slow") is None:
            item.add_marker("pure")


# XLA compiles the programs of tests without optimizing them, in a tenth of the time: they compare with
# formulas, with other formulas or with the same program. Tests marked `optimized` have XLA as users have it:
# they promise something of the bits of two programs, of memory or of speed. In a file they stand together.
def compile_quickly(quickly: bool) -> None:
    """Leave XLA's optimizations out of all programs from now on, or have them again."""
    if quickly != compile_quickly.on:
        compile_quickly.on = quickly
        jax.clear_caches()  # no program of the other kind is used


compile_quickly.on = False
options_of_users = compiler.get_compile_options


def options_of_tests(*arguments, env_options_overrides=None, **keywords):
    overrides = {**(UNOPTIMIZED if compile_quickly.on else {}), **(env_options_overrides or {})}
    return options_of_users(*arguments, env_options_overrides=overrides, **keywords)


compiler.get_compile_options = options_of_tests


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    compile_quickly(item.get_closest_marker("optimized") is None)


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

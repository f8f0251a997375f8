"""Importing jaxnas leaves the process as it was; the version stands in one place."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jaxnas

ROOT = Path(__file__).parent.parent

# What others do when they are imported is theirs: they come before the first look.
LOOK_AND_IMPORT = """
import importlib, logging, os, pkgutil, signal, sys, warnings
import flax, gymnasium, jax, optax, PIL.Image, rich.console, safetensors, scipy.special, shtab, tyro
from orbax.checkpoint import v1
import flax.linen, jax.export, jax.numpy, jax._src.monitoring as monitoring

def look():
    loggers = {"root": logging.root, **logging.root.manager.loggerDict}
    loggers = {name: x for name, x in loggers.items() if isinstance(x, logging.Logger)}
    return {
        "levels": {name: x.level for name, x in loggers.items() if x.level},
        "handlers": {name: list(x.handlers) for name, x in loggers.items() if x.handlers},
        "filters": {name: list(x.filters) for name, x in loggers.items() if x.filters},
        "disabled logs": logging.root.manager.disable,
        "hooks": [sys.excepthook, sys.unraisablehook, sys.displayhook, sys.breakpointhook],
        "warnings": list(warnings.filters),
        "configuration of JAX": dict(jax.config.values),
        "listeners of JAX": len(monitoring.get_event_listeners() + monitoring.get_event_duration_listeners()),
        "environment": dict(os.environ),
        "path": list(sys.path),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
    }

before = look()
import jaxnas
names = [m.name for m in pkgutil.walk_packages(jaxnas.__path__, "jaxnas.") if m.name != "jaxnas.__main__"]
for name in names:
    importlib.import_module(name)
after = look()
assert len(names) > 80, names
def differing(a, b):
    return [k for k in {**a, **b} if a.get(k) != b.get(k)] if isinstance(a, dict) else (a, b)

print("changed:", {key: differing(before[key], after[key]) for key in before if before[key] != after[key]})
"""


def test_importing_every_module_changes_nothing_of_the_process():
    done = subprocess.run([sys.executable, "-c", LOOK_AND_IMPORT], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "changed: {}\n", done.stdout + done.stderr


def test_the_command_line_takes_the_time_and_loads_a_command_only_when_it_is_called():
    code = """
import sys, time
began = time.perf_counter()
from jaxnas.commands import arguments, cli
ended = time.perf_counter()
import jaxnas
assert 0 < jaxnas.BEGAN - began < (ended - began) / 2, "JAX was loaded before the time was taken"
loaded = lambda: {m for m in sys.modules if m.startswith("jaxnas.commands.")} | {"orbax"} & {*sys.modules}
own = {"jaxnas.commands.arguments", "jaxnas.commands.cli"}
assert cli.main(["nothing"]) == 2 and loaded() == own, loaded()
assert cli.main(["list", "spaces"]) == 0 and loaded() == own | {"jaxnas.commands.listing"}, loaded()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert jaxnas.__version__ == importlib.metadata.version("jaxnas") == project["version"]
    assert cited and cited[1] == project["version"]
    for path in (ROOT / "jaxnas").rglob("*.py"):
        assert f'"{project["version"]}"' not in path.read_text("utf-8"), path

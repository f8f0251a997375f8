"""Imports go only to a lower floor, and importing jaxnas stays quick and light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxnas

ROOT = Path(jaxnas.__file__).parent
# A name with a dot is a module that stands on another floor than the rest of its package.
FLOORS = (
    ("types", "errors", "runs.files"),
    ("masks", "memory", "rewards", "machine", "hashing", "config.options", "config.listing"),
    ("spaces", "policies", "rl", "tabular", "planning", "training"),
    ("networks", "data"),
    ("controllers", "evaluators"),
    ("loop", "config"),
    ("runs",),
    ("report", "gym", "testing"),
    ("export", "log"),
    ("commands", "api"),
)
ALLOWED = {("api", "commands")}  # at most five
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def place(module: str) -> str:
    """What a module of jaxnas, such as jaxnas.config.options, stands under in FLOORS."""
    parts = module.split(".")[1:3]
    return ".".join(parts) if ".".join(parts) in FLOOR else parts[0]


def imported(source: str, module: str) -> set[str]:
    """The places in jaxnas that a module's source imports, at its top or inside functions."""
    names_of_imports = set()
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        names_of_imports |= {name for name in names if name.startswith("jaxnas.")}
    return {place(name) for name in names_of_imports}


def violations(source: str, module: str) -> list[str]:
    own = place(module)
    if own not in FLOOR:
        return [f"{module}: {own} is on no floor"]
    package = own.split(".")[0]
    return [
        f"{module} (floor {FLOOR[own]}) imports {other} (floor {FLOOR.get(other)})"
        for other in sorted(imported(source, module))
        if FLOOR.get(other, -1) >= FLOOR[own]
        and other.split(".")[0] != package
        and (own, other) not in ALLOWED
    ]


def modules():
    paths = {".".join(("jaxnas", *p.relative_to(ROOT).with_suffix("").parts)): p for p in ROOT.rglob("*.py")}
    return {m: paths[m] for m in sorted(paths) if m not in ("jaxnas.__init__", "jaxnas.__main__")}


@pytest.mark.parametrize("module", modules())
def test_imports_go_down(module):
    assert violations(modules()[module].read_text(), module) == []


def test_the_parts_are_found():
    assert {"jaxnas.types", "jaxnas.controllers.reinforce", "jaxnas.loop"} <= set(modules())
    assert imported((ROOT / "loop.py").read_text(), "jaxnas.loop") == {"errors", "masks", "rewards", "types"}
    assert len(ALLOWED) <= 5


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("jaxnas.controllers.spy", "from jaxnas.evaluators import mock"),
        ("jaxnas.evaluators.spy", "import jaxnas.controllers.random"),
        ("jaxnas.evaluators.spy", "def f():\n    from jaxnas import controllers"),
        ("jaxnas.evaluators.spy", "from ..controllers import random"),
        ("jaxnas.masks", "from jaxnas import loop"),
        ("jaxnas.masks", "from .loop import make"),
        ("jaxnas.types", "from jaxnas.errors import InputError"),
        ("jaxnas.runs.spy", "from jaxnas.report import page"),
        ("jaxnas.training.spy", "from jaxnas.config import configuration"),
        ("jaxnas.basement", "import jax"),
    ],
)
def test_a_violation_is_caught(module, source):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "jaxnas.controllers.spy",
            "from jaxnas import masks\nfrom jaxnas.policies import lstm\nimport optax",
        ),
        ("jaxnas.networks.spy", "from jaxnas.networks import layers\nfrom .layers import conv"),
        ("jaxnas.training.trainer", "from jaxnas.training import task"),
        ("jaxnas.spaces.spy", "from jaxnas.config import options"),
    ],
)
def test_what_is_allowed(module, source):
    assert violations(source, module) == []


def test_import_is_quick_and_loads_no_optional_package():
    optional = [
        "torch",
        "tensorflow",
        "tensorflow_datasets",
        "medmnist",
        "ray",
        "sklearn",
        "matplotlib",
        "gymnasium",
        "tensorboardX",
        "optuna",
        "onnx",
        "onnxruntime",
    ]
    code = (
        # Seconds of the process: those of the clock grow with what else the machine does.
        "import sys, time; began = time.process_time(); import jaxnas; took = time.process_time() - began;"
        f"print(took, *[name for name in {optional} if name in sys.modules])"
    )
    seconds = []
    for _ in range(3):
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent
        )
        took, *loaded = out.stdout.split()
        assert loaded == []
        seconds.append(float(took))
        if seconds[-1] < 2:
            break
    assert min(seconds) < 2

"""Imports go only to a lower floor, and importing jaxnas stays quick and light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxnas

ROOT = Path(jaxnas.__file__).parent
FLOORS = (
    ("types", "errors", "files"),
    ("masks", "memory", "rewards", "tasks", "data", "options", "environment", "listing"),
    ("spaces", "policies", "rl", "planning", "training", "programs", "networks"),
    ("controllers", "evaluators"),
    ("loop",),
    ("checkpoint", "ledger", "run", "seeds", "report", "export", "gym", "log"),
    ("config",),
    ("sampling", "retraining", "exporting", "tabulate", "comparison", "starter", "reporting", "watch"),
    ("api", "cli", "arguments", "searching", "progress"),
)
# On one floor, but a run is made of these two, and many searches of runs; an export holds weights as they do;
# commands draw their progress, the cache is one folder, a network reads its space's notation, reports and
# logs read ledgers, and one watches reports.
ALLOWED = {
    ("data", "environment"),
    ("run", "checkpoint"),
    ("run", "ledger"),
    ("export", "checkpoint"),
    ("seeds", "run"),
    ("seeds", "ledger"),
    ("cli", "arguments"),
    ("cli", "searching"),
    ("api", "searching"),
    ("searching", "progress"),
    ("cli", "progress"),
    ("networks", "spaces"),
    ("report", "ledger"),
    ("log", "ledger"),
    ("log", "report"),
    ("watch", "reporting"),
}
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def imported(source: str, module: str) -> set[str]:
    """The parts of jaxnas that a module's source imports, at its top or inside functions."""
    found = set()
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
        found |= {name.split(".")[1] for name in names if name.startswith("jaxnas.")}
    return found


def violations(source: str, module: str) -> list[str]:
    part = module.split(".")[1]
    if part not in FLOOR:
        return [f"{module}: {part} is on no floor"]
    return [
        f"{module} (floor {FLOOR[part]}) imports {other} (floor {FLOOR.get(other)})"
        for other in sorted(imported(source, module) - {part})
        if FLOOR.get(other, -1) >= FLOOR[part] and (part, other) not in ALLOWED
    ]


def modules():
    paths = {".".join(("jaxnas", *p.relative_to(ROOT).with_suffix("").parts)): p for p in ROOT.rglob("*.py")}
    return {m: paths[m] for m in sorted(paths) if m not in ("jaxnas.__init__", "jaxnas.__main__")}


@pytest.mark.parametrize("module", modules())
def test_imports_go_down(module):
    assert violations(modules()[module].read_text(), module) == []


def test_the_parts_are_found():
    assert {"jaxnas.types", "jaxnas.controllers.reinforce", "jaxnas.loop"} <= set(modules())
    assert imported((ROOT / "loop.py").read_text(), "jaxnas.loop") == {"masks", "rewards", "types"}


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
        ("jaxnas.report.spy", "from jaxnas import checkpoint"),
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
        ("jaxnas.training", "from jaxnas import tasks"),
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
        "import sys, time; began = time.perf_counter(); import jaxnas; took = time.perf_counter() - began;"
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

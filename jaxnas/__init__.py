"""jaxnas: neural architecture search by reinforcement learning in JAX and Flax."""

import importlib
import time
from typing import TYPE_CHECKING, Any

BEGAN = time.perf_counter()  # of the process, as good as: JAX, which takes seconds to load, comes after it

from jaxnas import controllers, evaluators, loop, masks, networks, rewards, spaces, types  # noqa: E402
from jaxnas.errors import InputError  # noqa: E402

if TYPE_CHECKING:
    from jaxnas import data, report, testing
    from jaxnas.api import Result, search

    __version__: str  # pyproject.toml has it

__all__ = [
    "InputError",
    "Result",
    "controllers",
    "data",
    "evaluators",
    "loop",
    "masks",
    "networks",
    "report",
    "rewards",
    "search",
    "spaces",
    "testing",
    "types",
]


def __getattr__(name: str) -> Any:
    if name in ("data", "report", "testing"):  # loaded when first used
        return importlib.import_module(f"jaxnas.{name}")
    if name in ("search", "Result"):
        return getattr(importlib.import_module("jaxnas.api"), name)
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("jaxnas")
    raise AttributeError(f"module 'jaxnas' has no attribute {name!r}")

"""The machine: its cores and memory mappings, where caches lie, and how JAX is set up for it."""

import functools
import os
from pathlib import Path

import jax

MAPPINGS, MOST_MAPPINGS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def set_up(*, threads: int, cpu_devices: int, deterministic: bool) -> None:
    """Set JAX up before it first touches a device: the CPU's thread pool and devices, and XLA's flags."""
    os.environ["NPROC"] = str(threads)
    if cpu_devices > 1:
        jax.config.update("jax_num_cpu_devices", cpu_devices)
    if deterministic:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()
    if jax.config.values["jax_compilation_cache_dir"] is None:
        # Apart by pool, so that no run gets a program that was cut for another.
        jax.config.update("jax_compilation_cache_dir", str(programs_folder() / str(threads)))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def is_deterministic() -> bool:
    """Whether a GPU is asked for equal bits: XLA's own convolutions differ all the same."""
    return DETERMINISTIC in os.environ.get("XLA_FLAGS", "")


def use_cpu() -> None:
    """Keep this process off the accelerators, whose memory a search may be using."""
    jax.config.update("jax_platforms", "cpu")


def mappings() -> int:
    """Memory mappings of this process, of which a large program on a CPU takes hundreds; 0 where unknown."""
    return MAPPINGS.read_bytes().count(b"\n") if MAPPINGS.exists() else 0


@functools.cache
def most_mappings() -> int:
    """How many of them Linux lets a process have: past that, compiled code is lost and the process dies."""
    return int(MOST_MAPPINGS.read_text()) if MOST_MAPPINGS.exists() else 2**16


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_folder() -> Path:
    """The user's cache folder of jaxnas: $XDG_CACHE_HOME/jaxnas, else ~/.cache/jaxnas."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "jaxnas").expanduser()


def programs_folder() -> Path:
    """Where compiled programs are kept for the next process, if JAX is not told another place."""
    return cache_folder() / "programs"

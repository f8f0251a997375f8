"""What a run depends on beside its configuration: versions, devices and the CPU's thread pool.

XLA cuts a matrix product on a CPU by the size of its thread pool, so the last bits of a result depend on
it: it is recorded, and a run goes on with the pool that it began with.
"""

import functools
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

from jaxnas.errors import InputError

FORMAT = 1  # of a run's folder
MAPPINGS, MOST_MAPPINGS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
PACKAGES = ("jaxnas", "jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")


def prepare(*, cpu_devices: int, deterministic: bool, folder: Path | None = None) -> None:
    """Set JAX up before it first touches a device; for a run that exists, as it was when it began.

    Raises:
      InputError: the run in `folder` cannot be read, or began with another thread pool than NPROC or the
        number of devices now ask for; or NPROC is no number.
    """
    asked = os.environ.get("NPROC", "")
    if asked and not (asked.isascii() and asked.isdigit() and int(asked)):
        raise InputError(f"NPROC: found {asked!r}; it takes how many threads the CPU's pool has, such as 8")
    threads = max(int(asked or cores()), cpu_devices)
    if folder is not None:
        before = read(folder)["cpu_threads"]
        if asked and threads != before:
            raise InputError(
                f"NPROC: {folder} began with {before} CPU threads, now it would be {threads}, which changes "
                f"the bits of its results; unset NPROC or set it to {before}"
            )
        if cpu_devices > before:
            raise InputError(
                f"runtime.cpu_devices: found {cpu_devices}; {folder} began with {before} CPU threads, more "
                f"devices change the bits of its results; it takes {before} or less"
            )
        threads = before
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


def describe() -> dict[str, Any]:
    """The content of environment.json."""
    devices = jax.devices()
    return {
        "format": FORMAT,
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "system": platform.platform(),
        "backend": jax.default_backend(),
        "devices": [d.device_kind for d in devices],
        "cores": cores(),
        "cpu_threads": int(os.environ.get("NPROC") or max(cores(), len(devices))),
    }


def read(folder: Path) -> dict[str, Any]:
    """environment.json of a run.

    Raises:
      InputError: the folder is not a run, its format is a later one, or the file is damaged.
    """
    path = folder / "environment.json"
    try:
        found = json.loads(path.read_bytes())
        if found["format"] > FORMAT:
            raise InputError(
                f"{folder}: format {found['format']} is newer; this jaxnas reads up to {FORMAT}: upgrade it"
            )
        return {**found, "cpu_threads": int(found["cpu_threads"])}
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{folder}: no run is here (no environment.json); start one with `jaxnas search`"
        ) from None
    except InputError:
        raise
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}); restore it, or start the search anew") from None


def changes(folder: Path) -> list[str]:
    """In which versions, and in which back end, this process differs from the one that began the run."""
    before, now = read(folder), describe()
    return [
        f"{key} {before.get(key)} → {now[key]}"
        for key in ("backend", *PACKAGES)
        if before.get(key) != now[key]
    ]


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


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _commit() -> str:
    """The commit of the source, where it is a git checkout."""
    here = Path(__file__).parent
    try:
        command = ["git", "-C", str(here), "rev-parse", "HEAD"]
        tracked = subprocess.run([*command[:3], "ls-files", "--error-unmatch", __file__], capture_output=True)
        done = subprocess.run(command, capture_output=True, text=True)
        return done.stdout.strip() if tracked.returncode == 0 else ""
    except OSError:
        return ""

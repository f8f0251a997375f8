"""What the results of a run depend on beside its configuration: versions, devices and the CPU's thread pool.

XLA cuts a matrix product on a CPU by the size of its thread pool, so the last bits of a result depend on
it: it is recorded, and a run goes on with the pool that it began with.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

from jaxnas import machine
from jaxnas.errors import InputError

FORMAT = 1  # of a run's folder
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
    threads = max(int(asked or machine.cores()), cpu_devices)
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
    machine.set_up(threads=threads, cpu_devices=cpu_devices, deterministic=deterministic)


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
        "cores": machine.cores(),
        "cpu_threads": int(os.environ.get("NPROC") or max(machine.cores(), len(devices))),
    }


def read(folder: Path) -> dict[str, Any]:
    """environment.json of a run.

    Raises:
      InputError: the folder is not a run, its format is a later one, or the file is damaged.
    """
    path = folder / "environment.json"
    try:
        about = json.loads(path.read_bytes())
        if about["format"] > FORMAT:
            raise InputError(
                f"{folder}: format {about['format']} is newer; this jaxnas reads up to {FORMAT}: upgrade it"
            )
        return {**about, "cpu_threads": int(about["cpu_threads"])}
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

"""Published files: downloaded once, checked always."""

import hashlib
import http.client
import os
import shutil
import sys
import urllib.request
from pathlib import Path

from jaxnas.errors import InputError
from jaxnas.machine import cache_folder


def root() -> Path:
    """The folder of downloaded files: `$JAXNAS_DATA`, or else `jaxnas` in the user's cache folder."""
    chosen = os.environ.get("JAXNAS_DATA")
    return Path(chosen).expanduser() if chosen else cache_folder()


def fetch(name: str, url: str, md5s: tuple[str, ...]) -> tuple[Path, str]:
    """A published file, downloaded if it is not there yet.

    Args:
      name: path under `root()`.
      url: where the first of the releases is published.
      md5s: of every release that is accepted.

    Returns:
      Its path, and which of the `md5s` it has.

    Raises:
      InputError: it cannot be downloaded, or is no release of that file; nothing is left behind or changed.
    """
    path = root() / name
    if path.is_file():
        got = _md5(path)
        if got not in md5s:
            raise InputError(
                f"{path}: md5 {got} is not the published {' or '.join(md5s)}; the file is truncated or "
                "altered: delete it to have it downloaded again"
            )
        return path, got
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    print(f"downloading {url} to {path}", file=sys.stderr)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        request = urllib.request.Request(url, headers={"User-Agent": "jaxnas"})
        with urllib.request.urlopen(request, timeout=60) as response, open(part, "wb") as file:
            shutil.copyfileobj(response, file, 1 << 20)
        got = _md5(part)
        if got != md5s[0]:
            raise OSError(f"md5 {got}")
        os.replace(part, path)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"{path}: not there, and the download failed ({error}); put {url} there by hand (md5 {md5s[0]}), "
            "or set JAXNAS_DATA to the folder that has it"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path, got


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

"""The process that runs a search: it alone owns the folder, and a signal ends it with all rounds saved."""

import contextlib
import fcntl
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxnas.errors import InputError


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Own the run in `folder`: by a lock that ends with the process, however it ends.

    Raises:
      InputError: another process owns it, or the folder cannot be written to.
    """
    try:
        lock = open(folder / ".lock", "ab")  # noqa: SIM115 (the context below closes it)
    except OSError as error:
        raise InputError(f"{folder}: cannot write there: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"{folder}: another process is running this search; wait for it or stop it"
            ) from None
        yield


class Interrupted(Exception):
    """SIGINT or SIGTERM came; everything up to the last finished round is saved."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Signals:
    """SIGINT and SIGTERM: raised at once where a round can be given up, otherwise when asked for."""

    def __init__(self) -> None:
        self.number, self.at_once, self.previous = 0, False, {}

    def __enter__(self) -> "Signals":
        with contextlib.suppress(ValueError):  # only the main thread may
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: Any) -> None:
        self.number = number
        if self.at_once:
            self.at_once = False
            raise Interrupted(number)

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Within this block a signal raises Interrupted wherever it comes."""
        self.at_once = True  # before the check, or a signal between the two would wait for the round
        try:
            self.check()
            yield
        finally:
            self.at_once = False

    def check(self) -> None:
        """Raise Interrupted if a signal came."""
        if self.number:
            raise Interrupted(self.number)

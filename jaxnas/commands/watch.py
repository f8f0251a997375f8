"""The report page of a run on localhost, brought up to date as trials arrive.

Two addresses exist, the page and its data; what else is asked for is not found, so nothing is read but the
run's own ledgers, and nothing is written.
"""

import argparse
import hashlib
import signal
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from jaxnas import machine, report
from jaxnas.commands import report_page
from jaxnas.errors import InputError
from jaxnas.report import page

READ = ("trials.csv", "rounds.csv", "timings.csv", "policy.npz")  # what changes while a search runs
LOCAL = ("127.0.0.1", "localhost", "::1")
POLICY = "default-src 'none'; connect-src 'self'; img-src data:"
POLICY += "; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument("--host", default="127.0.0.1", help="address (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8765, help="default: 8765")


def run(options: argparse.Namespace, _: list[str]) -> int:
    """Serve the page until an interrupt."""
    machine.use_cpu()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background commands ignore it
    execute(options.run, options.host, options.port, lambda text: print(text, flush=True))
    return 0


class Live:
    """The page's data, made anew when the run has changed."""

    def __init__(self, folder: Path):
        self.folder = folder
        run = report.read(folder)
        self.title, self.sources = page.title([run]), report_page.sources([run])
        self._lock, self._tag, self._data = threading.Lock(), "", ""

    def get(self) -> tuple[str, str]:
        """(tag, data): as long as the run stays the same, so does the tag."""
        with self._lock:
            tag = self._stamp()
            if tag != self._tag:
                run = report.read(self.folder)
                if run.twin is not None and run.path in self.sources:
                    self.sources[run.twin.path] = self.sources[run.path]
                self._data, self._tag = page.encode([run], self.sources), tag
            return self._tag, self._data

    def _stamp(self) -> str:
        seen = []
        for path in (self.folder / part / name for part in ("", "twin") for name in READ):
            try:
                stat = path.stat()
                seen.append((stat.st_mtime_ns, stat.st_size))
            except OSError:
                seen.append(None)
        return f'"{hashlib.sha256(repr(seen).encode()).hexdigest()[:16]}"'


def server(live: Live, host: str, port: int) -> ThreadingHTTPServer:
    """A server of the page, bound but not yet serving; port 0 takes a free one.

    Raises:
      InputError: the address cannot be bound to.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if host in LOCAL and urlsplit(f"//{self.headers.get('Host', '')}").hostname not in LOCAL:
                self._send(HTTPStatus.FORBIDDEN, "this page is for this machine\n")  # nor for other sites
            elif self.path not in ("/", "/data"):
                self._send(HTTPStatus.NOT_FOUND, "not found\n")
            else:
                try:
                    tag, data = live.get()
                except InputError as error:
                    return self._send(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n")
                if self.path == "/":
                    self._send(HTTPStatus.OK, page.html(data, live.title, live=True), "text/html")
                elif self.headers.get("If-None-Match") == tag:
                    self._send(HTTPStatus.NOT_MODIFIED, "", tag=tag)
                else:
                    self._send(HTTPStatus.OK, data, tag=tag)

        do_HEAD = do_GET

        def _send(self, status: HTTPStatus, text: str, kind: str = "text/plain", tag: str = "") -> None:
            content = text.encode()
            self.send_response(status)
            headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(content))}
            headers |= {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
            headers |= {"Content-Security-Policy": POLICY} | ({"ETag": tag} if tag else {})
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """No line a request."""

    try:
        bound = ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "a port is 0 to 65535"
        raise InputError(
            f"watch: cannot serve on {host}:{port}: {why}; take another --port or --host"
        ) from None
    bound.daemon_threads = True
    return bound


def execute(folder: Path, host: str, port: int, show: Callable[[str], None]) -> None:
    """Serve the page of the run in `folder` until an interrupt.

    Raises:
      InputError: the folder is no run, or the address cannot be bound to.
    """
    if (folder / "config.toml").is_file() and not (folder / "trials.csv").is_file():
        show(f"{folder}: waiting for the first trials")
    try:
        while (folder / "config.toml").is_file() and not (folder / "trials.csv").is_file():
            time.sleep(0.5)
        with server(Live(folder), host, port) as bound:
            shown = f"[{host}]" if ":" in host else host
            show(f"{folder} on http://{shown}:{bound.server_address[1]}, until Ctrl-C")
            bound.serve_forever()
    except KeyboardInterrupt:
        show("stopped")

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from jaxnas.commands import watch
from jaxnas.errors import InputError
from tests.report.test_report import FOUR, make


@pytest.fixture
def run(tmp_path):
    (tmp_path / "secret.txt").write_text("outside")
    return make(tmp_path / "run", FOUR[:3])


@pytest.fixture
def ask(run):
    """Asks the server of a run for an address, which is sent as it is."""
    with watch.server(watch.Live(run), "127.0.0.1", 0) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()

        def get(path, method="GET", **headers):
            link = http.client.HTTPConnection("127.0.0.1", served.server_address[1], timeout=10)
            link.request(method, path, headers=headers)
            answer = link.getresponse()
            body = answer.read().decode()
            link.close()
            return answer, body

        yield get
        served.shutdown()
        thread.join()


def test_the_data_is_sent_anew_when_the_run_has_changed(run, ask):
    page, html = ask("/")
    assert (page.status, page.getheader("Content-Type")) == (200, "text/html; charset=utf-8")
    first, data = ask("/data")
    assert data in html
    tag = first.getheader("ETag")
    same, nothing = ask("/data", **{"If-None-Match": tag})
    assert (same.status, nothing) == (304, "")
    make(run, FOUR)
    fresh, more = ask("/data", **{"If-None-Match": tag})
    assert fresh.status == 200
    assert fresh.getheader("ETag") != tag
    assert more != data
    make(run / "twin", FOUR, controller="random")
    assert ask("/data", **{"If-None-Match": fresh.getheader("ETag")})[0].status == 200


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/../secret.txt",
            "/%2e%2e/secret.txt",
            "/..%2fsecret.txt",
            "//secret.txt",
            "/data/../../secret.txt",
        ),
        *("/trials.csv", "/config.toml", "/state/", "/.lock", "/data?x", "http://127.0.0.1/data"),
    ],
)
def test_nothing_else_is_served(ask, path):
    answer, body = ask(path)
    assert (answer.status, body) == (404, "not found\n")


def test_it_only_reads(run, ask):
    before = {path: path.stat().st_mtime_ns for path in (run, *run.rglob("*"))}
    assert [ask("/data", method)[0].status for method in ("POST", "PUT", "DELETE")] == [501] * 3
    answer, body = ask("/data", "HEAD")
    assert (answer.status, body) == (200, "")
    assert before == {path: path.stat().st_mtime_ns for path in (run, *run.rglob("*"))}


def test_other_sites_get_nothing_through_a_name_of_theirs(ask):
    assert ask("/data", Host="evil.example")[0].status == 403
    assert ask("/data", Host="localhost:8765")[0].status == 200


def test_a_run_that_cannot_be_read_now_is_no_end_of_the_server(run, ask):
    (run / "trials.csv").write_text("a,b\n")
    answer, body = ask("/data")
    assert answer.status == 503
    assert "found the columns a, b" in body
    make(run, FOUR)
    assert ask("/data")[0].status == 200


def test_errors_are_one_line(run, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        watch.execute(tmp_path / "nowhere", "127.0.0.1", 0, print)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            InputError, match=f"watch: cannot serve on 127.0.0.1:{port}: Address .* another --port"
        ):
            watch.execute(run, "127.0.0.1", port, print)
    with pytest.raises(InputError, match=r"watch: cannot serve on 127\.0\.0\.1:99999: a port is 0 to 65535"):
        watch.execute(run, "127.0.0.1", 99999, print)


def test_an_interrupt_ends_it_cleanly(run):
    command = [sys.executable, "-m", "jaxnas", "watch", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "on http://127.0.0.1:" in process.stdout.readline()
            os.kill(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "stopped\n", "")

"""Folders that are whole whenever the process is killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from jaxnas.runs import files

FIRST, SECOND = {"a": b"1", "b": b"1" * 5000}, {"a": b"2", "c": b"2" * 5000}

# Without jaxnas, which takes seconds to import: rewrites a folder until it is killed.
REWRITE = f"""
import importlib.util, itertools, os, pathlib
spec = importlib.util.spec_from_file_location("files", {files.__file__!r})
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
print("ready", flush=True)
for i in itertools.count():
    content = f"{{os.getpid()}} {{i}} ".encode()
    files.write_folder(pathlib.Path("best"), {{name: content * 2000 for name in "abcdef"}})
"""


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_is_replaced_as_a_whole(exchanges, tmp_path, monkeypatch):
    if not exchanges:
        monkeypatch.setattr(files, "_exchange", lambda a, b: False)
    for wanted in (FIRST, SECOND):
        files.write_folder(tmp_path / "best", wanted)
        assert content(tmp_path / "best") == wanted
        assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_names_are_exchanged_here(tmp_path):
    """Else the test below would not test what it says; on another system it is skipped."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "file").touch()
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux exchanges names")
    assert files._exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "file").exists() and not (tmp_path / "a" / "file").exists()
    assert not files._exchange(tmp_path / "a", tmp_path / "nowhere")


def test_two_renames_are_repaired(tmp_path, monkeypatch):
    """Killed between them, the old folder is under its other name."""
    files.write_folder(tmp_path / "best", FIRST)
    (tmp_path / ".best.tmp").mkdir()
    (tmp_path / "best").rename(tmp_path / ".best.old")
    files.repair(tmp_path / "best")
    assert content(tmp_path / "best") == FIRST
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux exchanges names")
def test_a_kill_at_any_moment_leaves_a_whole_folder(tmp_path):
    seen = set()
    for number in range(8):
        process = subprocess.Popen([sys.executable, "-c", REWRITE], cwd=tmp_path, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(0.05 + 0.037 * number)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if not seen and not (tmp_path / "best").exists():
            continue  # it had not written any yet
        found = content(tmp_path / "best")
        assert sorted(found) == list("abcdef") and len(set(found.values())) == 1
        seen |= set(found.values())
    assert len(seen) > 1
    files.repair(tmp_path / "best")
    assert [path.name for path in tmp_path.iterdir()] == ["best"]

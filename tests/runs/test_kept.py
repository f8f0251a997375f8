"""What a kill -9 leaves of the page and of best/: what is on the disk at that moment."""

import json
import sys
import threading
from pathlib import Path

import pytest
from safetensors import safe_open

from jaxnas import config
from jaxnas.commands import execution, report_page, start
from jaxnas.runs import checkpoint, process
from tests.export.test_folder import FILES, TEXT
from tests.report.test_page import data_of

CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "os.truncate")


class Watch:
    """Looks at a run's folder before every change that Python makes to any file, as if killed there."""

    def __init__(self, folder: Path):
        self.folder, self.on, self.wrong, self.seen = folder, False, [], {}
        self.looks, self.pages, self.trials = 0, set(), set()
        sys.addaudithook(self)  # these stay until the process ends

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.on or event not in CHANGES or threading.current_thread() is not threading.main_thread():
            return
        self.on = False  # looking opens files
        try:
            if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
                path = Path(arguments[0])
                assert path != self.folder / "report.html", "the page is written in place"
                assert path.parent != self.folder / "best" or path.name[0] == ".", f"{path} is, in place"
            self.look()
        except Exception as error:  # it would end in the middle of the search
            self.wrong.append(repr(error))
        finally:
            self.on = True

    def look(self) -> None:
        self.looks += 1
        page, best = self.folder / "report.html", self.folder / "best"
        if self.changed(page):
            text = page.read_text("utf-8")
            assert text.endswith("</html>\n")
            self.pages.add(data_of(text)[0]["count"])
        if self.changed(best):
            assert {path.name for path in best.iterdir()} - {".metrics.json.tmp"} == FILES
            about = json.loads((best / "architecture.json").read_text("utf-8"))
            with safe_open(best / "weights.safetensors", "numpy") as weights:
                assert weights.metadata()["trial"] == str(about["trial"])
                assert all(weights.get_tensor(name).size for name in weights.keys())  # noqa: SIM118
            for name in ("model.py", "predict.py"):
                compile((best / name).read_text("utf-8"), name, "exec")
            self.trials.add(about["trial"])

    def changed(self, path: Path) -> bool:
        """Whether it is there, and another one than the last time."""
        if not path.exists():
            assert path not in self.seen, f"{path} has gone"
            return False
        stat = path.stat()
        before, self.seen[path] = self.seen.get(path), (stat.st_ino, stat.st_mtime_ns)
        return before != self.seen[path]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux exchanges names")
def test_page_and_best_are_whole_at_any_moment(tmp_path, monkeypatch, capsys):
    """The search of test_folder, whose best changes; then predict.py runs, in the check at its end."""
    monkeypatch.setattr(report_page, "SHARE", 1e9)  # a page every round
    monkeypatch.setattr(checkpoint.Saver, "is_due", lambda self, seconds: True)
    path, folder = tmp_path / "small.toml", tmp_path / "small"
    path.write_text(TEXT.replace("batch_size = 3", "batch_size = 1").replace("seed = 1", "seed = 2"))
    settings = config.load(path)
    parts = config.build(settings)
    settings, searches = start.searches_of(settings, parts)
    folder.mkdir()
    (folder / "config.toml").write_text(searches[0].text)
    left = folder / ".report.html.1"  # by a kill before
    left.write_text("half of a page")
    watch = Watch(folder)
    watch.on = True
    with process.owned(folder):
        execution.execute(settings, searches, folder, parts)
    watch.on = False
    assert watch.wrong == []
    assert not left.exists()
    assert watch.looks > 50
    assert watch.pages == set(range(1, 7))
    assert len(watch.trials) > 1
    assert "100.00% of" in capsys.readouterr().out

import base64
import json
import re
import zlib

import numpy as np
import pytest

from jaxnas import report, spaces
from jaxnas.networks import blocks
from jaxnas.report import Source, cells, page, policy
from jaxnas.runs import ledger
from jaxnas.spaces.layers import Block, Cell, Conv, Softmax
from jaxnas.spaces.nasnet import INPUTS
from tests.helpers import SPACES, chain
from tests.report.test_report import FOUR, HEADER, long, make


def data_of(html: str) -> list[dict]:
    packed = re.search(r'id="data">(.*?)</script>', html, re.S)[1]
    return json.loads(zlib.decompress(base64.b64decode(packed)))["runs"]


def encoded(folder, source=None, **options) -> list[dict]:
    run = report.read(folder)
    text = page.encode([run], {run.path: source} if source else {}, **options)
    return json.loads(zlib.decompress(base64.b64decode(text)))["runs"]


# THE FILE


def test_the_page_of_many_trials_is_small_repeatable_and_needs_no_network(tmp_path):
    long(tmp_path / "twin", 2000, 5, controller="random")
    run = report.read(long(tmp_path, 2000, 5))
    html = report.write_page([run], tmp_path, {}).read_text("utf-8")
    assert len(html.encode()) < 1_000_000
    assert report.write_page([run], tmp_path, {}).read_text("utf-8") == html
    assert set(re.findall(r"\w+://[^\s\"']*", html)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"""\b(src|href)="(?!data:)|@import|url\(""", html)
    own, twin = data_of(html)
    assert (own["count"], twin["twin"], len(own["trials"]["trial"])) == (2000, True, 2000)


def test_names_are_text_and_never_markup(tmp_path):
    folder = make(tmp_path / "<b>&run", [FOUR[0].replace("C(16,3)", "</script><img>")])
    html = report.write_page([report.read(folder)], tmp_path, {}).read_text("utf-8")
    assert "<title>&lt;b&gt;&amp;run · jaxnas</title>" in html
    assert "<img>" not in html
    assert data_of(html)[0]["trials"]["architecture"] == ["</script><img> SM"]


def test_a_page_is_whole_or_the_one_before(tmp_path, monkeypatch):
    run = report.read(make(tmp_path))
    path = report.write_page([run], tmp_path, {})
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            report.write_page([run._replace(name="other")], tmp_path, {})
    assert path.read_bytes() == before
    with pytest.raises(report.InputError, match=r"config\.toml: cannot write"):
        report.write_page([run], tmp_path / "config.toml", {})


def test_where_too_many_trials_would_not_fit_the_best_and_the_failed_remain(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "TRIALS", (4, 2))
    monkeypatch.setattr(page, "LIMIT", 0)
    (run,) = encoded(make(tmp_path))
    assert (run["trials"]["trial"], run["trials"]["left_out"]) == ([1, 3], 2)  # 1 failed, 3 is the best
    assert run["count"] == 4


# THE DATA


def test_what_the_page_says_of_the_best_network(tmp_path):
    folder = make(tmp_path)
    assert encoded(folder)[0]["quality"] is None
    (folder / "best").mkdir()
    metrics = {
        "trial": 3,
        "validation": {"balanced_accuracy": 1 / 3, "accuracy": 0.5, "auc": float("nan")},
        "test": None,
        "base": {"validation": {"accuracy": 0.5}},
        "recall": {"a": 1.0, "b": None},
        "calibration": None,
        "remarks": ["No better."],
    }
    (folder / "best" / "metrics.json").write_text(json.dumps(metrics))
    (run,) = encoded(folder)
    assert run["quality"] == {
        "trial": 3,
        "of_classes": True,
        "splits": {"validation": {"balanced_accuracy": 0.333333, "accuracy": 0.5, "auc": None}},
        "base": {"validation": {"accuracy": 0.5}},
        "recall": {"a": 1, "b": None},
        "calibration": {},
        "remarks": ["No better."],
    }
    assert run["measure"] == "accuracy"
    del metrics["base"]  # as another version wrote it
    (folder / "best" / "metrics.json").write_text(json.dumps(metrics))
    assert encoded(folder)[0]["quality"] is None


def test_what_the_page_says_of_four_trials_by_hand(tmp_path):
    (run,) = encoded(make(tmp_path), window=2)
    assert run["mean"] == {"x": [2, 3, 4], "y": [0.4, 0.6, 0.7]}
    assert run["best_so_far"] == {"x": [1, 3, 4], "y": [0.4, 0.6, 0.8]}
    assert (run["failed"], run["later_mean"]) == (1, 0.7)
    table = run["trials"]
    assert table["numbers"] == {
        "reward": [0.4, None, 0.6, 0.8], "accuracy": [0.5, None, 0.9, 0.7], "params": [100, None, 300, 800],
    }  # fmt: skip
    assert table["status"] == ["ok", "failed", "ok", "ok"]
    assert table["reason"][1] == "the loss became NaN, or infinite"
    assert [net["trial"] for net in run["best"]] == [3, 2, 0]
    assert (run["policy"], run["times"], run["environment"]) == (None, [], {})
    assert run["command"] == f"jaxnas search {tmp_path / 'config.toml'}"


def test_what_less_effort_reaches_by_hand(tmp_path):
    """The first measure of each split that is known; what is no such table is none."""
    folder = make(tmp_path)
    assert encoded(folder)[0]["twins"] is None
    heading = "name,params,seconds,images,validation_auc,validation_loss,test_auc,test_loss,remark"
    path = folder / "final" / "twins.csv"
    path.parent.mkdir()
    path.write_text(f"{heading}\nsearch,9,1.50,60,0.75,0.1,,,\nSVC,90,0.01,60,0.875,,,,An SVC is better\n")
    assert encoded(folder)[0]["twins"] == {
        "columns": ["params", "seconds", "images", "validation_auc"],
        "names": ["search", "SVC"],
        "values": [[9, 1.5, 60, 0.75], [90, 0.01, 60, 0.875]],
        "remarks": ["", "An SVC is better"],
    }
    path.write_text(f"{heading}\nsearch,many,1.50,60,0.75,0.1,,,\n")
    assert encoded(folder)[0]["twins"] is None


@pytest.mark.parametrize("lines", [(), FOUR[1:2], FOUR[:1]])
def test_no_trial_one_and_nothing_but_failures_have_a_page(tmp_path, lines):
    (run,) = encoded(make(tmp_path, lines))
    assert run["count"] == len(lines)
    assert len(run["best"]) == (lines == FOUR[:1])


def test_shares_of_proposals_by_hand(tmp_path):
    heat = policy.of_trials(report.read(make(tmp_path)), 2)
    assert heat["at"] == [2, 3, 4]
    assert heat["rows"] == [
        {"name": "filters", "values": ["16", "32"]},
        {"name": "kernel", "values": ["3", "5"]},
    ]
    assert heat["percent"] == [[50, 50, 100, 0], [50, 50, 50, 50], [50, 50, 0, 100]]


def test_the_policy_along_its_own_walk_by_hand(tmp_path):
    """Two decisions of stop, a, b, c: at round 0 a and then half a stop; at round 2 b and then c for sure."""
    lines = [f"{i},{i},a,.,a,0.5,1,0.5,ok," for i in range(4)]
    make(tmp_path, lines, header=HEADER.replace("filters,kernel", "layer_1,layer_2"))
    probabilities = np.array([[[0, 0.75, 0.25, 0], [0.5, 0.5, 0, 0]], [[0, 0, 0.996, 0.004], [0, 0, 0, 1]]])
    snapshots = {0: (np.array([1, 0]), probabilities[0]), 2: (np.array([2, 3]), probabilities[1])}
    ledger.save_policy(tmp_path / "policy.npz", snapshots)
    (found,) = encoded(tmp_path, Source(chain(2)))
    heat = found["policy"]
    assert heat["at"] == [0, 2]
    assert heat["rows"] == [
        {"name": "layer_1", "values": ["a", "b"]},
        {"name": "layer_2", "values": [".", "a", "c"]},
    ]
    assert heat["percent"] == [[75, 25, 50, 50, 0], [0, 100, 0, 0, 100]]
    assert encoded(tmp_path)[0]["policy"] is None  # nobody knows the names of choices


def test_layers_have_shapes_where_there_is_a_network(tmp_path):
    space = SPACES["one_block"]()
    line = '0,0,16,3,0.25,"C(16,3) P(2,2) D(0.25) SM",0.5,100,0.4,ok,'
    folder = make(tmp_path, [line], header=HEADER.replace("kernel,", "kernel,dropout,"))
    (run,) = encoded(folder, Source(space, blocks(space, (8, 8, 1), 3), (8, 8, 1)))
    assert run["best"][0]["parts"] == [
        ["convolution 3 × 3", [8, 8, 16], 160, 0],  # 3 · 3 · 1 · 16 + 16
        ["max pooling 2 × 2", [4, 4, 16], 0, 0],
        ["dense, outputs", [3], 771, 0],  # 4 · 4 · 16 · 3 + 3
    ]
    (run,) = encoded(folder, Source(space, blocks(space, (1, 1, 1), 3), (1, 1, 1)))
    parts = run["best"][0]["parts"]  # no network for images so small
    assert [part[0] for part in parts] == [
        *("convolution C(16,3)", "pooling P(2,2)", "dropout D(0.25)", "softmax SM")
    ]


def test_layers_and_skips_are_those_of_the_space_where_there_is_no_network(tmp_path):
    """The notation says what differs from the first value of `skip`."""
    space = spaces.cnn(image_size=8, filters=(8,), skip=(1, 0, 2))
    text = "C(8,3,1)+skip0 - C(8,3,1) - C(8,3,1)+skip2 - P(2,2) - SM()"
    folder = make(tmp_path, [f'0,0,16,3,"{text}",0.5,100,0.4,ok,'])
    (run,) = encoded(folder, Source(space))
    assert [part[3] for part in run["best"][0]["parts"]] == [0, 1, 2, 0, 0]
    assert run["best"][0]["parts"][2][0] == "convolution C(8,3,1)+skip2"
    (run,) = encoded(folder)  # without a space the text is all that is known
    assert [part[0] for part in run["best"][0]["parts"]] == [f"layer {text}"]


def test_times_add_up_across_processes(tmp_path):
    """Counters begin anew where the run was resumed: 1 + 2 s of training, then 4."""
    (make(tmp_path) / "timings.csv").write_text(
        "round,rounds,seconds,programs,cached,compile_seconds,waited_seconds,training_seconds,evaluate_seconds\n"
        "0,1,5,1,0,2,2,1,4\n1,1,3,1,0,2,2,3,6.5\n2,1,6,1,0,0.5,0.5,4,5\n"
    )
    (run,) = encoded(tmp_path)
    assert run["times"] == [["compile", 2.5], ["train", 7], ["prepare", 2], ["controller", 2.5]]  # 14 in all
    old = "round,rounds,seconds\n0,10,1.5\n10,10,0.5\n"  # nor can parts of one program be told apart
    (tmp_path / "timings.csv").write_text(old)
    assert encoded(tmp_path)[0]["times"] == [["search", 2]]


def test_cells_are_graphs():
    blocks = (Block((0, 1), ("sep3", "avg3"), "add"), Block((2, 0), ("max3", "identity"), "cat"))
    same = (Block((0, 0), ("conv1", "conv1"), "add"),)
    normal, reduction = cells.graphs(
        [Cell("normal", INPUTS, blocks, "unused"), Cell("reduction", INPUTS, same, "unused")]
    )
    assert normal == (
        "normal cell",
        ("h-1", "h", "b1 add", "b2 cat", "concatenation"),
        ((1, 2, "sep3"), (0, 2, "avg3"), (2, 3, "max3"), (1, 3, "identity"), (3, 4, "")),
    )
    assert reduction.edges == ((1, 2, "conv1"), (1, 2, "conv1"), (2, 3, ""))
    table = spaces.nasbench201()
    text = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|none~2|"
    (cell,) = cells.graphs(table.layers(table.parse(text)))
    assert cell.nodes == ("input", "node 1", "node 2", "output")
    assert cell.edges == ((0, 1, "conv 1x1"), (1, 2, "skip connect"), (0, 3, "avg pool 3x3"))
    assert cell.name == "cell"
    assert cells.graphs([Conv(16, 3), Softmax()]) == []


def test_a_cell_is_laid_out_without_overlap_and_edges_pass_beside_boxes():
    blocks = (
        Block((0, 1), ("sep3", "avg3"), "add"),
        Block((2, 0), ("max3", "identity"), "cat"),
        Block((1, 3), ("conv1", "conv3"), "add"),
    )
    (cell,) = cells.graphs([Cell("normal", INPUTS, blocks, "unused")])
    drawn = cells.draw(cell)
    assert [box.words for box in drawn.boxes if box.kind == "node"] == list(cell.nodes)
    for i, a in enumerate(drawn.boxes):
        assert abs(a.x) + a.width / 2 <= drawn.width / 2 + 0.1
        assert a.y - a.height / 2 >= 0 and a.y + a.height / 2 <= drawn.height
        for b in drawn.boxes[:i]:
            apart = abs(a.x - b.x) - (a.width + b.width) / 2, abs(a.y - b.y) - (a.height + b.height) / 2
            assert max(apart) > 0, (a, b)
    (first,) = cells.graphs([Cell("normal", INPUTS, blocks[:1], "unused")])
    assert cells.draw(first).lines == (
        # h-1 36 and h 34 wide, 24 apart; sep3 and avg3 42 wide, 8 apart; the node at 104 to 130
        "M29.9 26C29.9 46 25.2 46 25.2 66M25.2 88L7 104",
        "M-29 26C-29 46 -25.2 46 -25.2 66M-25.2 88L-7 104",
        "M0 130C0 150 0 150 0 170",
    )
    kinds = [box.kind for box in cells.draw(first).boxes]
    assert kinds == ["node", "node", "node", "pooling", "convolution", "node"]
    passing = [line for line in drawn.lines if "V" in line]
    assert len(passing) == 2  # h to b2, h-1 to b3
    for line in passing:
        x, bottom = re.search(r" ([-\d.]+) [\d.]+V([\d.]+)", line).groups()
        beside = [box for box in drawn.boxes if abs(box.y - float(bottom)) < box.height]
        assert all(abs(float(x) - box.x) > box.width / 2 for box in beside)

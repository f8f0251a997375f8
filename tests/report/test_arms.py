"""The tables and the figure of a comparison, from arrays whose numbers are known."""

from xml.etree import ElementTree

import numpy as np
import pytest

from jaxnas import report
from jaxnas.spaces import blocks
from jaxnas.types import MOCK_FAILURE, OK
from tests.helpers import chain

SPACE = blocks()
REWARD = np.array([[0.2, 0.6, 0.4, 0.8], [0.4, 0.2, 0.9, 0.1]], np.float32)
ARCH = np.array(
    [[[0, 0, 0], [1, 1, 0], [1, 0, 0], [1, 1, 0]], [[3, 0, 0], [3, 0, 1], [3, 1, 0], [0, 0, 0]]], np.uint8
)


def arm(name, reward=REWARD, *, failed=(), space=SPACE, arch=ARCH, **measures):
    status = np.full(reward.shape, OK, np.uint8)
    for at in failed:
        status[at] = MOCK_FAILURE
    reward = np.where(status == OK, reward, np.float32(np.nan))
    arrays = {"reward": reward, "status": status, "arch": arch, **measures}
    return report.Arm(name, "random", space, arrays)


def test_the_comparison_by_hand():
    params = np.array([[10, 20, 30, 40], [100, 100, 100, 100]], np.float32)
    arms = [arm("a", params=params), arm("b", failed=[(0, 3)], params=params / 2)]
    rows = report.comparison(arms, (1, 2, 4), ("params",), 2)
    assert [row["arm"] for row in rows] == ["a", "b"]
    a, b = rows
    assert (a["searches"], a["trials"], a["controller"]) == (2, 4, "random")
    found = [a[f"best_{n}"] for n in (1, 2, 4)]
    assert found == pytest.approx([(0.2 + 0.4) / 2, (0.6 + 0.4) / 2, (0.8 + 0.9) / 2])
    # Of two searches the bootstrap's interval is their range.
    assert (a["best_4_low"], a["best_4_high"]) == pytest.approx((0.8, 0.9))
    assert b["best_4"] == pytest.approx((0.6 + 0.9) / 2)
    assert [row["best_2_rank"] for row in rows] == [1, 1]
    assert [row["best_4_rank"] for row in rows] == [1, 2]
    assert a["final_params"] == (40 + 100) / 2  # of trials 3 and 2
    assert b["final_params"] == (10 + 50) / 2  # of trials 1 and 2
    assert a["mean_reward"] == pytest.approx((0.5 + 0.4) / 2)
    assert a["last_reward"] == pytest.approx((0.6 + 0.5) / 2)
    # b lacks one of search 0's last two trials, whose mean is 0.6 with it.
    mine, base = np.nanmean(arms[1].arrays["reward"][:, -2:], axis=1), REWARD[:, -2:].mean(axis=1)
    assert (a["last_gain"], b["last_gain"]) == pytest.approx((0, (mine - base).mean()))
    assert b["last_gain"] != 0
    assert a["mean_params"] == (25 + 100) / 2
    assert (a["params_ratio"], a["params_ratio_low"], a["params_ratio_high"]) == (1, 1, 1)
    assert b["params_ratio"] == pytest.approx(0.5)
    assert "mean_params" not in report.comparison([arms[0], arm("c")], (4,), (), 2)[0]


def test_choices_by_hand():
    rows = report.choices([arm("a")])
    share = {(row["decision"], row["value"]): row["share"] for row in rows}
    assert share == {
        ("filters", "16"): (1 / 4 + 1 / 4) / 2,
        ("filters", "32"): 3 / 4 / 2,
        ("filters", "128"): 3 / 4 / 2,
        ("kernel", "3"): (1 / 2 + 3 / 4) / 2,
        ("kernel", "5"): (1 / 2 + 1 / 4) / 2,
        ("dropout", "0.1"): (1 + 3 / 4) / 2,
        ("dropout", "0.25"): 1 / 4 / 2,
    }
    low = {(row["decision"], row["value"]): (row["share_low"], row["share_high"]) for row in rows}
    assert low["filters", "32"] == (0, 3 / 4)


def test_the_top_by_hand():
    """Search 0 has three distinct architectures, of which (1, 1, 0) counts once; search 1 has four."""
    rows = report.top([arm("a")], ("filters", "kernel"))
    share = {row["value"]: row["share"] for row in rows}
    assert {row["decision"] for row in rows} == {"filters × kernel"}
    assert share == pytest.approx(
        {
            "16 3": (1 / 3 + 1 / 4) / 2,
            "32 5": 1 / 3 / 2,
            "32 3": 1 / 3 / 2,
            "128 3": 2 / 4 / 2,
            "128 5": 1 / 4 / 2,
        }
    )
    alone = report.top([arm("a", failed=[(1, 0), (1, 1)])], ())
    share = {(row["decision"], row["value"]): row["share"] for row in alone}
    assert share["filters", "128"] == pytest.approx(1 / 2 / 2)
    assert share["kernel", "3"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_the_end_of_a_walk_is_no_choice():
    """What is decoded as nothing counts for no value."""
    space = chain(2)._replace(
        decode=lambda arch: {f"layer_{t + 1}": " abc"[int(c)] for t, c in enumerate(arch)}
    )
    arch = np.array([[[1, 0], [1, 2]], [[3, 0], [2, 1]]], np.uint8)
    rows = report.choices([arm("a", REWARD[:, :2], space=space, arch=arch)])
    share = {(row["decision"], row["value"]): row["share"] for row in rows}
    assert share["layer_2", "b"] == share["layer_2", "a"] == 0.5  # of the one trial that has a second layer
    assert share["layer_1", "a"] == 0.5


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_the_figure(scale):
    rng = np.random.default_rng(0)
    reward = rng.uniform(size=(20, 300)).astype(np.float32)
    arch = np.zeros((20, 300, 3), np.uint8)
    arms = [arm(f"arm <{i}>", reward + i, arch=arch) for i in range(8)]
    text = report.best_so_far_figure(arms, scale, "A & B")
    assert text == report.best_so_far_figure(arms, scale, "A & B")
    paths = [e for e in ElementTree.fromstring(text).iter() if e.tag.endswith("path")]
    classes = [path.get("class") for path in paths]
    assert classes.count("band") == 8
    assert classes.count("line") == 16  # and those of the legend
    assert "nan" not in text
    assert "20 searches" in text
    assert "arm &lt;7&gt;" in text
    empty = arm("none", np.full((2, 300), np.nan, np.float32), arch=arch[:2])
    assert report.best_so_far_figure([empty], scale, "nothing").count("band") == 1  # in the style alone

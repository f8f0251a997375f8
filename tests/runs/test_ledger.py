"""Ledgers are appended to, read up to the first damage, and cut back to a round."""

import csv

import numpy as np
import pytest

from jaxnas.loop import Record
from jaxnas.runs import ledger
from jaxnas.spaces import blocks
from jaxnas.types import DIVERGED, OK

ROWS = [{"round": r, "name": f"a, {r}", "value": ""} for r in range(4)]
TEXT = 'round,name,value\n0,"a, 0",\n1,"a, 1",\n2,"a, 2",\n3,"a, 3",\n'


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ledger.csv"
    ledger.append(path, ROWS[:1])
    ledger.append(path, [])
    ledger.append(path, ROWS[1:])
    return path


def test_append(path):
    assert path.read_text() == TEXT
    assert ledger.read(path) == [{k: str(v) for k, v in row.items()} for row in ROWS]
    assert ledger.count(path, "round") == 4


def test_read_stops_at_the_first_damage(path):
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for n in range(len(whole) + 1):
        path.write_bytes(whole[:n])
        assert len(ledger.read(path)) == max(0, sum(end <= n for end in ends) - 1), n
    for damage in (b"\xff", b"4,a\n", b"4,a,b,c\n", b"\0\n"):
        path.write_bytes(whole + damage)
        assert ledger.count(path, "round") in (0, 4)
    assert ledger.read(path.with_name("none.csv")) == []


def test_count_ends_at_a_gap(path):
    ledger.append(path, [{"round": 5, "name": "", "value": ""}])
    assert (len(ledger.read(path)), ledger.count(path, "round"), ledger.count(path, "other")) == (5, 4, 0)


@pytest.mark.parametrize("tail", ["", "4,torn", "7,\n", "x\n", "\n", '"'])
def test_cut(path, tail):
    path.write_text(TEXT + tail)
    ledger.cut(path, "round", 2)
    assert path.read_text() == TEXT[: TEXT.index("2,")]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_cut_leaves_a_good_file_alone(path):
    before = path.stat()
    ledger.cut(path, "round", 4)
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("content", [b"", b"rou", b"round,name,value\n", b"\xff\xfe\n1\n", TEXT.encode()])
def test_cut_to_nothing(path, content):
    path.write_bytes(content)
    ledger.cut(path, "round", 0)
    assert not path.exists()
    ledger.cut(path, "round", 0)


def test_write_atomic(tmp_path, monkeypatch):
    path = tmp_path / "file"
    ledger.write_atomic(path, b"old")

    def no(*_):
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.os, "replace", no)
        with pytest.raises(OSError, match="killed"):
            ledger.write_atomic(path, b"new")
        assert path.read_bytes() == b"old"
    ledger.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_numbers_read_back_as_the_same_float32():
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [rng.standard_normal(500) * 10.0 ** rng.integers(-9, 9, 500), [0, 1, 0.1, 16777216]]
    )
    for value in values.astype(np.float32):
        text = ledger.number(value)
        assert np.float32(text) == value
        assert "e" not in text
    assert [ledger.number(x) for x in (np.nan, np.inf, -np.inf)] == ["", "", ""]
    assert [ledger.number(x) for x in (0.5, 1.0, np.float32(0.1), 7210)] == ["0.5", "1", "0.1", "7210"]


def test_rows_of_trials_and_rounds():
    space = blocks()
    record = Record(
        round=np.int32(3),
        arch=np.array([[0, 0, 0], [3, 1, 2]], np.int32),
        measures={
            "accuracy": np.array([0.5, np.nan], np.float32),
            "status": np.array([OK, DIVERGED], np.int32),
        },
        legal=np.ones(2, bool),
        reward=np.array([0.25, np.nan], np.float32),
        best_reward=np.float32(0.75),
        metrics={"loss": np.float32(1.5)},
        prefixes={},
    )
    first, second = ledger.trial_rows(space, record, 2)
    assert list(first) == [
        *("trial", "round", "filters", "kernel", "dropout"),
        *("architecture", "accuracy", "reward", "status", "reason"),
    ]
    assert list(first.values())[:5] == [6, 3, 16, 3, 0.1]
    assert [first[k] for k in ("accuracy", "reward", "status", "reason")] == ["0.5", "0.25", "ok", ""]
    assert [second[k] for k in ("trial", "accuracy", "reward", "status")] == [7, "", "", "failed"]
    assert "NaN" in second["reason"]
    row = ledger.round_row(record, 2)
    assert row == {"round": 3, "trials": 8, "mean_reward": "0.25", "best_reward": "0.75", "loss": "1.5"}
    unscored = record._replace(reward=np.full(2, np.nan, np.float32), best_reward=np.float32(-np.inf))
    row = ledger.round_row(unscored, 2)
    assert (row["mean_reward"], row["best_reward"]) == ("", "")
    failed = ledger.trial_rows(space, unscored, 2)[0]
    assert (failed["status"], failed["reason"]) == ("failed", "the reward is not finite")


def test_a_field_with_a_comma_is_quoted(tmp_path):
    ledger.append(tmp_path / "a.csv", [{"architecture": "C(16,3) SM", "n": 1}])
    assert next(csv.reader([(tmp_path / "a.csv").read_text().splitlines()[1]])) == ["C(16,3) SM", "1"]


def test_policy_rounds_thin_out():
    rounds = [r for r in range(20000) if ledger.is_policy_round(r)]
    assert rounds[:100] == list(range(100))
    assert [sum(low <= r < 10 * low for r in rounds) for low in (100, 1000)] == [90, 90]
    assert len(rounds) == 290


def test_policy_is_read_back_and_written_the_same(tmp_path):
    rng = np.random.default_rng(0)
    shots = {
        r: (rng.integers(0, 4, 3).astype(np.int32), rng.random((3, 4)).astype(np.float32)) for r in (0, 1, 5)
    }
    path = tmp_path / "policy.npz"
    ledger.save_policy(path, shots)
    once = path.read_bytes()
    back = ledger.load_policy(path)
    assert list(back) == [0, 1, 5]
    for r, (greedy, probabilities) in shots.items():
        np.testing.assert_array_equal(back[r][0], greedy)
        np.testing.assert_array_equal(back[r][1], probabilities.astype(np.float16))
    ledger.save_policy(path, back)
    assert path.read_bytes() == once


def test_a_damaged_policy_is_none_or_right(tmp_path):
    shots = {r: (np.full(3, r, np.int32), np.full((3, 4), r / 7, np.float32)) for r in range(3)}
    path = tmp_path / "policy.npz"
    assert ledger.load_policy(path) == {}
    ledger.save_policy(path, shots)
    whole, good = path.read_bytes(), ledger.load_policy(path)
    for at in range(len(whole)):
        for content in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x15]) + whole[at + 1 :]):
            path.write_bytes(content)
            for r, (greedy, probabilities) in ledger.load_policy(path).items():
                np.testing.assert_array_equal(greedy, good[r][0])
                np.testing.assert_array_equal(probabilities, good[r][1])


def test_rows_keep_to_the_header_of_a_file(tmp_path):
    """A run that was begun with other columns goes on with them, so that no row is longer than its header."""
    path = tmp_path / "timings.csv"
    path.write_text("round,seconds,programs\n0,1.5,3\n")
    ledger.append(path, [{"round": 1, "waited_seconds": 0.5, "seconds": 2.5}])
    assert path.read_text() == "round,seconds,programs\n0,1.5,3\n1,2.5,\n"
    assert [row["seconds"] for row in ledger.read(path)] == ["1.5", "2.5"]
    assert ledger.count(path, "round") == 2


def test_which_trials_may_be_the_best():
    def row(trial, reward, constant="", status="ok"):
        return {"trial": str(trial), "reward": reward, "constant": constant, "status": status}

    rows = [row(0, "0.8", "1"), row(1, "0.5", "0"), row(2, "0.9", "0", "rejected"), row(3, ""), row(4, "0.6")]
    assert [r["trial"] for r in ledger.ranked(rows)] == ["4", "1"]
    assert [r["trial"] for r in ledger.ranked([rows[0], rows[2], row(5, "0.9", "1")])] == ["5", "0"]
    assert ledger.ranked([rows[2], rows[3]]) == ledger.ranked([]) == []
    values = ledger.eligible([[0.3, 0.2], [0.3, 0.2]], True, [[1, 0], [1, 1]])
    np.testing.assert_array_equal(values, [[-np.inf, 0.2], [0.3, 0.2]])

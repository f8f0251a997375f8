"""Runs become a table: which rows, which columns, what does not belong together, and the way back."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.commands import cli
from jaxnas.evaluators import table
from jaxnas.runs import ledger
from jaxnas.spaces import blocks
from tests.helpers import quick_jit

HEADER = "trial,round,filters,kernel,dropout,architecture,accuracy,params,reused,reward,status,reason"
SMALL, WIDE = '"C(16,3) P(2,2) D(0.1) SM"', '"C(32,3) P(2,2) D(0.1) SM"'
FIRST = (
    f"0,0,16,3,0.1,{SMALL},0.5,100,0,0.4,ok,",
    f"1,0,16,3,0.1,{SMALL},0.5,100,1,0.4,ok,",  # reused
    f'2,1,32,3,0.1,{WIDE},,,0,,failed,"the loss became NaN, or infinite"',
    f"3,1,16,3,0.1,{SMALL},0.6000000238418579,100,0,0.6,ok,",
)
SECOND = (f"0,0,32,3,0.1,{WIDE},0.7,200,0,0.5,ok,",)
CONFIG = """
[search]
seed = {seed}
[space]
name = "{space}"
forbid = [{forbid}]
[controller]
name = "random"
[evaluator]
name = "trained"
[data]
source = "{source}"
[trainer]
epochs = {epochs}
workers = {seed}
"""


def make(folder, lines, *, header=HEADER, **settings):
    settings = {"seed": 0, "space": "blocks", "forbid": "", "source": "digits", "epochs": 5} | settings
    folder.mkdir()
    (folder / "config.toml").write_text(CONFIG.format(**settings))
    (folder / "trials.csv").write_text("\n".join([header, *lines]) + "\n")
    return str(folder)


def tabulate(*arguments):
    return cli.main(["tabulate", *map(str, arguments)])


def test_a_row_a_successful_trial(tmp_path, capsys):
    """In the order of the runs; another seed, mask and number of workers do not keep runs apart."""
    first = make(tmp_path / "first", FIRST)
    second = make(tmp_path / "second", SECOND, seed=7, forbid="{ filters = 128 }")
    out = tmp_path / "new" / "table.csv"
    assert tabulate(first, second, "--out", out) == 0
    assert capsys.readouterr().out == f"{out}: 3 trials of 2 architectures\n"
    expected = [
        "architecture,accuracy,params",
        f"{SMALL},0.5,100",
        f"{SMALL},0.6000000238418579,100",
        f"{WIDE},0.7,200",
    ]
    assert out.read_text().splitlines() == expected
    assert [path.name for path in out.parent.iterdir()] == ["table.csv"]
    again = out.read_bytes()
    assert tabulate(first, second, "--out", out) == 0
    assert out.read_bytes() == again


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    folder = make(tmp_path / "run", FIRST[:1])
    with open(tmp_path / "run" / "trials.csv", "a") as file:
        file.write(f"1,0,16,3,0.1,{SMALL},0.9,1")
    assert tabulate(folder, "--out", tmp_path / "t.csv") == 0
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"space": "metaqnn"},
            'space.name is "metaqnn", in {first} "blocks"; a table takes runs of one space',
        ),
        ({"source": "mnist"}, 'data.source is "mnist", in {first} "digits"'),
        ({"epochs": 6}, "trainer.epochs is 6, in {first} 5"),
        (
            {"header": HEADER.replace("params", "flops")},
            "its trials.csv has other columns than that of {first}",
        ),
        ({"header": HEADER.replace("kernel", "kernels")}, "its trials.csv has other columns"),
    ],
)
def test_runs_that_do_not_belong_together(change, message, tmp_path, capsys):
    first, second = make(tmp_path / "first", FIRST), make(tmp_path / "second", SECOND, **change)
    assert tabulate(first, second, "--out", tmp_path / "t.csv") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{second}: {message.format(first=first)}" in error
    assert not (tmp_path / "t.csv").exists()


def test_bad_input(tmp_path, capsys):
    folder, failed = make(tmp_path / "run", FIRST), make(tmp_path / "failed", FIRST[2:3])
    for arguments, message in (
        ([tmp_path / "no", "--out", tmp_path / "t.csv"], "no: not a run: no such folder"),
        ([failed, "--out", tmp_path / "t.csv"], "failed succeeded; see the reasons"),
        ([folder, "--out", tmp_path / "t.txt"], "it takes a file name that ends in .csv"),
        ([folder, "--out", tmp_path / "run" / "trials.csv" / "t.csv"], "--out: cannot write"),
        ([folder, "--out", tmp_path / "run" / "trials.csv"], "is a file of that run"),
        ([folder], "--out"),
    ):
        assert tabulate(*arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message in error


def test_from_a_search_to_a_table_and_back(tmp_path, monkeypatch):
    """Every successful trial of a search is found in its table, to the bit."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text(
        '[search]\nbudget = 24\n[space]\nname = "blocks"\n[controller]\nname = "random"\nbatch_size = 8\n'
        '[evaluator]\nname = "mock"\nnoise = 0.1\nfailure_rate = 0.2\n'
    )
    assert cli.main(["search", "c.toml", "--search.name", "run"]) == 0
    assert tabulate("checkpoints/run", "--out", "t.csv") == 0
    trials = ledger.read(tmp_path / "checkpoints" / "run" / "trials.csv")
    whole = [row for row in trials if row["status"] == "ok"]
    assert 0 < len(whole) < 24
    with open("t.csv", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {name: row[name] for name in ("architecture", "accuracy", "params")} for row in whole
        ]
    space = blocks()
    archs = np.stack([space.parse(row["architecture"]) for row in whole])
    keys = jax.random.split(jax.random.key(0), 64)
    find = quick_jit(table(space, path="t.csv").evaluate)
    for arch in np.unique(archs, axis=0):
        found = find(keys, (), jnp.tile(arch, (64, 1)))[1]
        measured = {
            (np.float32(row["accuracy"]), np.float32(row["params"]))
            for row, other in zip(whole, archs, strict=True)
            if (other == arch).all()
        }
        drawn = set(zip(np.asarray(found["accuracy"]), np.asarray(found["params"]), strict=True))
        assert drawn == measured

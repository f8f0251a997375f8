import csv
import sys

import numpy as np
import pytest

from jaxnas.commands import cli
from jaxnas.errors import InputError
from jaxnas.log import optuna as ours
from tests.report.test_report import FOUR, make


@pytest.fixture
def optuna():
    return pytest.importorskip("optuna")


@pytest.fixture
def storage(optuna, tmp_path):
    return optuna.storages.get_storage(f"sqlite:///{tmp_path / 'study.db'}")


def test_a_run_and_its_twin_become_studies(optuna, storage, tmp_path):
    run = make(tmp_path / "run", [*FOUR, '4,2,16,,"C(16) SM",0.6,50,0.5,ok,'])
    make(run / "twin", FOUR[:1], controller="random")
    for _ in range(2):  # the second time replaces them
        assert ours.execute(run, f"sqlite:///{tmp_path / 'study.db'}") == ("run", 5)
    assert sorted(optuna.get_all_study_names(storage)) == ["run", "run/twin"]
    study = optuna.load_study(study_name="run", storage=storage)
    assert (study.direction.name, study.best_value, study.best_trial.number) == ("MAXIMIZE", 0.8, 3)
    first, failed, *_, short = study.trials
    assert first.params == {"filters": "16", "kernel": "3"}
    assert first.user_attrs == {
        "accuracy": 0.5, "params": 100.0, "architecture": "C(16,3) SM", "status": "ok", "reason": "",
    }  # fmt: skip
    assert (failed.state.name, failed.values) == ("FAIL", None)
    assert failed.user_attrs["reason"] == "the loss became NaN, or infinite"
    assert short.params == {"filters": "16"}  # it did not come to choose a kernel
    assert short.distributions == {"filters": optuna.distributions.CategoricalDistribution(("16", "32"))}


def test_a_study_of_someone_else_is_left_alone(optuna, storage, tmp_path):
    optuna.create_study(study_name="run", storage=storage)
    with pytest.raises(InputError, match="--optuna: the storage has another study named 'run'; take another"):
        ours.execute(make(tmp_path / "run"), f"sqlite:///{tmp_path / 'study.db'}")


@pytest.mark.parametrize("bad", ["study.db", "sqlite:////nowhere/at/all.db", "nosuch://a/b"])
def test_a_bad_storage_is_an_error_in_one_line(optuna, tmp_path, bad):
    with pytest.raises(InputError, match=f"--optuna: cannot use '{bad}': .*such as sqlite:///study.db"):
        ours.execute(make(tmp_path / "run"), bad)


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"--optuna: needs optuna: pip install 'jaxnas\[optuna\]'"):
        ours.execute(make(tmp_path / "run"), "sqlite://")


def test_trials_open_in_a_spreadsheet_and_in_pandas_as_they_are(tmp_path):
    path = make(tmp_path / "run") / "trials.csv"
    with path.open(newline="") as file:
        assert csv.Sniffer().sniff(file.read()).delimiter == ","
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1]["reason"] == "the loss became NaN, or infinite"
    assert [row["accuracy"] for row in rows] == ["0.5", "", "0.9", "0.7"]
    table = pytest.importorskip("pandas").read_csv(path)
    np.testing.assert_array_equal(table["reward"], [0.4, np.nan, 0.6, 0.8])
    assert table["architecture"][0] == "C(16,3) SM"
    assert table[table.status == "ok"]["params"].tolist() == [100, 300, 800]


def test_the_command(optuna, tmp_path, capsys):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    assert cli.main(["export", str(make(tmp_path / "run")), "--optuna", storage]) == 0
    assert capsys.readouterr().out == f"{storage}: study 'run', 4 trials\n"
    assert cli.main(["export", str(tmp_path / "none"), "--optuna", storage]) == 2
    assert "no such folder" in capsys.readouterr().err

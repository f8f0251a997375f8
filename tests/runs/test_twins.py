"""What is said of a search beside less effort."""

import pytest

from jaxnas.runs import ledger, twins
from jaxnas.training.task import MULTI_LABEL
from tests.helpers import dataset


def table(measure="accuracy", **values):
    """Rows of (value, parameters)."""
    names = {"found": "search", "random": "random search", "hand": "by hand", "svc": "SVC"}
    return [
        {"name": names[name], f"validation_{measure}": str(value), "params": str(params)}
        for name, (value, params) in values.items()
    ]


def test_remarks_by_hand():
    rows = table(found=(0.9861, 900), random=(0.98, 9), hand=(0.9861, 451), svc=(0.9917, 9000))
    assert twins.remarks(rows, "accuracy", True) == {
        "SVC": "An SVC on pixels is more accurate than the network that was found: 0.9917 against 0.9861"
    }
    rows = table(found=(0.5, 900), random=(0.5, 9), hand=(0.5, 450))
    assert twins.remarks(rows, "accuracy", True) == {
        "by hand": "The network by hand has the same accuracy as the network that was found, 0.5000, with "
        "450 against 900 parameters"
    }
    rows = table("balanced_accuracy", found=(0.5, 900), random=(0.75, 9))
    assert twins.remarks(rows, "balanced_accuracy", True) == {
        "random search": "The network that random search found has a higher balanced accuracy than the "
        "network that was found: 0.7500 against 0.5000"
    }
    rows = table("loss", found=(0.5, 900), random=(0.75, 9), hand=(0.25, 9), svc=("", 9))
    assert twins.remarks(rows, "loss", False) == {
        "by hand": "The network by hand has a lower loss than the network that was found: 0.2500 against "
        "0.5000"
    }
    assert twins.remarks(table(svc=(1, 1)), "accuracy", True) == {}  # no network could be trained


def write(path, heading, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join((heading, *lines)) + "\n")


@pytest.fixture
def finished(tmp_path):
    """A run of two rounds, with one network and the one by hand trained to the end."""
    write(tmp_path / "timings.csv", "round,seconds", "0,1.5", "1,2.5")
    heading = (
        "name,trial,params,validation_accuracy,validation_auc,validation_loss,validation_constant,status"
    )
    lines = "trial_000004,4,700,0.5,0.5,0.5,0,ok", "baseline,,9000,0.75,0.5,0.5,0,ok"
    write(tmp_path / "final" / "results.csv", heading, *lines)
    write(tmp_path / "final" / "costs.csv", "name,seconds", "trial_000004,3.00", "baseline,5.00")
    return tmp_path


def test_a_method_that_is_done_is_not_fitted_again(finished, monkeypatch):
    data, done = dataset(), []
    rows = twins.write(finished / "final", [finished, finished / "twin"], data, watch=done.append)
    assert [row["name"] for row in rows] == [
        *("search", "by hand", "SVC", "logistic regression", "commonest class")
    ]
    assert [row["seconds"] for row in rows[:2]] == ["7.00", "5.00"]
    assert {row["images"] for row in rows} == {"60"}
    written = ledger.read(finished / "final" / "twins.csv")
    assert [row["validation_loss"] for row in written] == [row["validation_loss"] for row in rows]
    assert done == [1, 2, 3]
    assert [row["name"] for row in written if row["remark"]] == ["by hand", "SVC", "logistic regression"]
    path = finished / "final" / "twins.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))  # killed after the SVC
    fitted, fit = [], twins._fitted
    monkeypatch.setattr(twins, "_fitted", lambda name, data: fitted.append(name) or fit(name, data))
    again = twins.write(finished / "final", [finished], data)
    assert fitted == ["logistic regression", "commonest class"]
    assert [row["validation_accuracy"] for row in again] == [row["validation_accuracy"] for row in rows]


def test_without_classes_the_networks_alone(finished):
    rows = twins.write(finished / "final", [finished], dataset()._replace(task=MULTI_LABEL))
    assert [row["name"] for row in rows] == ["search", "by hand"]

"""Lookups in a CSV file: what is found, what is missing, repeats, and bad files."""

import csv
import gzip
import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import config, masks
from jaxnas.errors import InputError
from jaxnas.evaluators import table
from jaxnas.spaces import blocks, nasbench201
from jaxnas.types import NOT_IN_TABLE, OK
from tests.helpers import chain, quick_jit

MODULE = importlib.import_module("jaxnas.evaluators.table")  # the package has a function of that name


@pytest.fixture(params=["by number", "by bisection"])
def either_way(request, monkeypatch):
    """Both kinds of lookup, on spaces small enough for either."""
    if request.param == "by bisection":
        monkeypatch.setattr(MODULE, "MOST_NUMBERS", 0)


def lookup(space, path, archs, seed=0, **options):
    archs = jnp.asarray(np.array(archs, np.int32))
    evaluator = table(space, path=str(path), **options)
    return quick_jit(evaluator.evaluate)(jax.random.split(jax.random.key(seed), len(archs)), (), archs)[1]


@pytest.mark.parametrize("make", [lambda: blocks(num_blocks=6), chain], ids=["two words", "one word"])
@pytest.mark.usefixtures("either_way")
def test_every_row_is_found_and_nothing_else(make, tmp_path):
    space = make()
    draw = jax.jit(jax.vmap(lambda key: masks.sample(key, space)))
    archs = np.unique(np.asarray(draw(jax.random.split(jax.random.key(0), 200))), axis=0)
    archs = np.random.default_rng(0).permutation(archs)
    half = len(archs) // 2
    text = "architecture,accuracy,latency_ms\n"
    for i, arch in enumerate(archs[:half]):
        text += f'"{space.describe(arch)}",{i / 1000},{i}\n'
    (tmp_path / "t.csv").write_text(text)
    found = lookup(space, tmp_path / "t.csv", archs)
    assert set(found) == {"accuracy", "latency_ms", "status"}
    np.testing.assert_array_equal(found["status"], np.where(np.arange(len(archs)) < half, OK, NOT_IN_TABLE))
    np.testing.assert_array_equal(found["latency_ms"][:half], np.arange(half))
    np.testing.assert_allclose(found["accuracy"][:half], np.arange(half) / 1000, rtol=1e-6)
    assert np.isnan(found["accuracy"][half:]).all()


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
@pytest.mark.usefixtures("either_way")
def test_small_tables(rows, tmp_path):
    space = chain(2)
    names = ["a", "ab", "bc", "c", "cb"]
    (tmp_path / "t.csv").write_text(
        "architecture,score\n" + "".join(f"{n},{i}\n" for i, n in enumerate(names[:rows]))
    )
    found = lookup(space, tmp_path / "t.csv", [space.parse(name) for name in names])
    np.testing.assert_array_equal(found["score"], [i if i < rows else np.nan for i in range(5)])


@pytest.mark.usefixtures("either_way")
def test_repeats_are_drawn_by_key(tmp_path):
    (tmp_path / "t.csv").write_text("architecture,score\na,1\nb,5\na,2\na,3\nb,5\n")
    space = chain(2)
    found = np.asarray(lookup(space, tmp_path / "t.csv", [[1, 0]] * 3000)["score"])
    np.testing.assert_allclose(np.bincount(found.astype(int))[1:] / 3000, 1 / 3, atol=0.05)
    np.testing.assert_array_equal(lookup(space, tmp_path / "t.csv", [[2, 0]] * 9)["score"], 5)


def test_both_ways_give_the_same_answer(tmp_path, monkeypatch):
    """Repeats, missing rows and all, in the least and the largest architecture too."""
    space, rng = blocks(num_blocks=2), np.random.default_rng(0)
    archs = np.concatenate([np.zeros((1, 6), int), [[3, 1, 2] * 2], rng.integers(0, (4, 2, 3) * 2, (60, 6))])
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["architecture", "accuracy"])
        for row in rng.integers(0, 40, 90):  # so of the 62 at least 22 have no row, and some have several
            writer.writerow([space.describe(archs[row]), rng.uniform()])
    found = [lookup(space, tmp_path / "t.csv", archs)]
    monkeypatch.setattr(MODULE, "MOST_NUMBERS", 0)
    found.append(lookup(space, tmp_path / "t.csv", archs))
    for name, values in found[0].items():
        np.testing.assert_array_equal(values, found[1][name], err_msg=name)
    assert set(np.asarray(found[0]["status"]).tolist()) == {OK, NOT_IN_TABLE}


def test_without_repeats_the_key_is_not_used(tmp_path):
    (tmp_path / "t.csv").write_text("architecture,score\na,1\nb,5\n")
    evaluate = table(chain(2), path=str(tmp_path / "t.csv")).evaluate
    keys, archs = jax.random.split(jax.random.key(0), 2), jnp.array([[1, 0], [2, 0]])
    assert "random_bits" not in str(jax.make_jaxpr(evaluate)(keys, (), archs))
    (tmp_path / "t.csv").write_text("architecture,score\na,1\nb,5\nb,6\n")
    evaluate = table(chain(2), path=str(tmp_path / "t.csv")).evaluate
    assert "random_bits" in str(jax.make_jaxpr(evaluate)(keys, (), archs))


CELLS = (
    "index,architecture,cifar10_valid_acc_12ep,cifar10_test_acc_200ep,params\n"
    "0,|none~0|+|none~0|none~1|+|none~0|none~1|none~2|,10,10.5,73306\n"
    "1,|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|,63.364,85.8633,100000\n"
)


def test_search_on_one_column_report_another(tmp_path):
    (tmp_path / "t.csv").write_text(CELLS)
    options = {"accuracy": "cifar10_valid_acc_12ep", "percent": True}
    archs = [[0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 1], [4, 4, 4, 4, 4, 4]]
    found = lookup(nasbench201(), tmp_path / "t.csv", archs, **options)
    assert set(found) == {"accuracy", "cifar10_test_acc_200ep", "params", "status"}
    np.testing.assert_allclose(found["accuracy"], [0.1, 0.63364, np.nan], rtol=1e-6)
    np.testing.assert_allclose(found["cifar10_test_acc_200ep"], [0.105, 0.858633, np.nan], rtol=1e-6)
    np.testing.assert_array_equal(found["params"], [73306, 100000, np.nan])
    np.testing.assert_array_equal(found["status"], [OK, OK, NOT_IN_TABLE])


def test_the_shipped_table():
    """Every architecture of RLMedNAS has five trainings; parameters by hand: f·k² + f, then 16·f·10 + 10."""
    space = blocks()
    archs, columns = MODULE.read(space, MODULE.find("rlmednas_digits"))
    everything, counts = np.unique(archs, axis=0, return_counts=True)
    assert len(everything) == space.size == 24
    np.testing.assert_array_equal(counts, 5)
    decoded = [space.decode(arch) for arch in archs]
    params = [d["filters"] * (d["kernel"] ** 2 + 1 + 160) + 10 for d in decoded]
    np.testing.assert_array_equal(columns["params"], params)
    assert len(np.unique(columns["loss"])) == 120
    for name in ("accuracy", "test_accuracy"):
        assert ((columns[name] > 0.9) & (columns[name] < 1)).all()
    found = lookup(space, "rlmednas_digits", everything)
    assert (np.asarray(found["status"]) == OK).all()
    assert {"accuracy", "params", "test_accuracy"} <= set(found)


def test_an_unknown_name_lists_the_shipped_tables(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"evaluator.path: unknown name 'rlmednas'; did you mean .*digits"):
        table(blocks(), path="rlmednas")
    monkeypatch.chdir(tmp_path)
    for path in ("rlmednas_digits.csv", "./rlmednas_digits", ""):  # files, which are not there
        with pytest.raises(InputError, match=f"evaluator.path: no file '{path}'; it takes a CSV file"):
            table(blocks(), path=path)


def test_the_configuration_of_the_shipped_table():
    parts = config.build(config.load(Path(__file__).parents[2] / "configs" / "table_rlmednas.toml"))
    assert parts.network is parts.dataset is None
    assert parts.space.size == 24
    measures = {"accuracy": jnp.array([0.95]), "params": jnp.array([2730.0])}
    np.testing.assert_allclose(parts.reward(measures), [0.95 - 0.0273], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (CELLS, {"accuracy": "cifar10_val"}, "evaluator.accuracy: unknown name 'cifar10_val'; did you mean"),
        (CELLS, {"accuracy": "index", "percent": True}, "evaluator.accuracy: unknown name 'index'"),
        (
            CELLS,
            {"accuracy": "cifar10_valid_acc_12ep"},
            "t.csv: found accuracy 10; it takes numbers in 0–1; if .* set evaluator.percent = true",
        ),
        (
            CELLS,
            {"accuracy": "params", "percent": True},
            "t.csv: found accuracy 73306; it takes numbers in 0–1$",
        ),
        (
            CELLS.replace("params", "accuracy"),
            {"accuracy": "cifar10_valid_acc_12ep"},
            "evaluator.accuracy: got 'cifar10_valid_acc_12ep'; .* has a column 'accuracy' of its own",
        ),
    ],
)
def test_bad_columns(text, options, message, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        table(nasbench201(), path=str(tmp_path / "t.csv"), **options)


def test_trials_of_a_search_and_gzip(tmp_path):
    """The columns of a run's trials.csv that are no measures are left out, and so are its failed rows."""
    text = (
        "trial,round,layer_1,layer_2,architecture,accuracy,params,reward,status,reason\n"
        "0,0,a,.,a,0.5,10,0.4,ok,\n"
        '1,0,b,.,b,,,,failed,"the loss became NaN or infinite"\n'
        "2,0,c,.,c,nan,10,,ok,\n"
    )
    with gzip.open(tmp_path / "t.csv.gz", "wt") as file:
        file.write(text)
    found = lookup(chain(2), tmp_path / "t.csv.gz", [[1, 0], [2, 0], [3, 0]])
    assert set(found) == {"accuracy", "params", "status"}
    np.testing.assert_array_equal(found["status"], [OK, NOT_IN_TABLE, NOT_IN_TABLE])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no file .*t.csv"),
        ("", "needs a header with a column 'architecture'"),
        ("arch,accuracy\na,0.5\n", "needs a header with a column 'architecture'"),
        ("architecture,accuracy\n", "at least one row"),
        ("architecture,note\na,good\n", "has no column of numbers"),
        ("architecture,accuracy\na,0.5\nxyz,0.5\n", "t.csv: .*'xyz'"),
        ("architecture,accuracy\na,0.5\nb,high\n", "t.csv: .*'high'"),
        ("architecture,accuracy\na,0.5\nb\n", "t.csv"),
        ("architecture,accuracy\na,\n", "t.csv"),
    ],
)
def test_bad_files(text, message, tmp_path):
    if text is not None:
        (tmp_path / "t.csv").write_text(text)
    if text is not None and text.endswith("b\n"):  # a short row counts as an empty measure: left out
        found = lookup(chain(2), tmp_path / "t.csv", [[1, 0], [2, 0]])
        np.testing.assert_array_equal(found["status"], [OK, NOT_IN_TABLE])
        return
    with pytest.raises(InputError, match=message):
        table(chain(2), path=str(tmp_path / "t.csv"))

"""Lookups in a CSV file: what is found, what is missing, repeats, and bad files."""

import gzip

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import masks
from jaxnas.errors import InputError
from jaxnas.evaluators import table
from jaxnas.spaces import blocks
from jaxnas.types import NOT_IN_TABLE, OK
from tests.helpers import chain


def lookup(space, path, archs, seed=0):
    archs = jnp.asarray(np.array(archs, np.int32))
    evaluator = table(space, path=str(path))
    return jax.jit(evaluator.evaluate)(jax.random.split(jax.random.key(seed), len(archs)), (), archs)[1]


@pytest.mark.parametrize("make", [lambda: blocks(num_blocks=4), chain], ids=["two words", "one word"])
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
def test_small_tables(rows, tmp_path):
    space = chain(2)
    names = ["a", "ab", "bc", "c", "cb"]
    (tmp_path / "t.csv").write_text(
        "architecture,score\n" + "".join(f"{n},{i}\n" for i, n in enumerate(names[:rows]))
    )
    found = lookup(space, tmp_path / "t.csv", [space.parse(name) for name in names])
    np.testing.assert_array_equal(found["score"], [i if i < rows else np.nan for i in range(5)])


def test_repeats_are_drawn_by_key(tmp_path):
    (tmp_path / "t.csv").write_text("architecture,score\na,1\nb,5\na,2\na,3\nb,5\n")
    space = chain(2)
    found = np.asarray(lookup(space, tmp_path / "t.csv", [[1, 0]] * 3000)["score"])
    np.testing.assert_allclose(np.bincount(found.astype(int))[1:] / 3000, 1 / 3, atol=0.05)
    np.testing.assert_array_equal(lookup(space, tmp_path / "t.csv", [[2, 0]] * 9)["score"], 5)


def test_trials_of_a_search_and_gzip(tmp_path):
    """The columns of a run's trials.csv that are no measures are left out, and so are its failed rows."""
    text = (
        "trial,round,layer_1,layer_2,architecture,accuracy,params,reward,status,reason\n"
        "0,0,a,.,a,0.5,10,0.4,ok,\n"
        '1,0,b,.,b,,,,failed,"the loss became NaN or infinite"\n'
    )
    with gzip.open(tmp_path / "t.csv.gz", "wt") as file:
        file.write(text)
    found = lookup(chain(2), tmp_path / "t.csv.gz", [[1, 0], [2, 0]])
    assert set(found) == {"accuracy", "params", "status"}
    np.testing.assert_array_equal(found["status"], [OK, NOT_IN_TABLE])


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

"""Checkpoints come back to the bit, or an older one does, or an error says what does not fit."""

import json
import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.errors import InputError
from jaxnas.runs import checkpoint
from tests.helpers import assert_identical


class State(NamedTuple):
    key: jax.Array
    weights: dict
    empty: tuple
    round: jax.Array


def state(seed, width=3):
    key = jax.random.key(seed)
    leaves = {
        "w": jax.random.normal(key, (2, width)),
        "b": jnp.array([jnp.nan, -0.0, jnp.inf]),
        "flag": jnp.array(True),
        "half": jnp.arange(5, dtype=jnp.bfloat16),
        "keys": jax.random.split(key, 4),
    }
    return State(key, leaves, (), jnp.int32(seed))


@pytest.fixture
def checkpoints(tmp_path):
    with checkpoint.open_folder(tmp_path / "state") as opened:
        yield opened


def fill(checkpoints, steps):
    for step in steps:
        assert checkpoint.save(checkpoints, step, state(step), {"seconds": step / 2}).result()


def test_nothing_saved(checkpoints):
    assert checkpoint.restore(checkpoints, state(0), 100) is None


def test_what_is_saved_comes_back(checkpoints):
    fill(checkpoints, [0, 4, 9])
    step, tree, about = checkpoint.restore(checkpoints, state(1), 100)
    assert (step, about["seconds"]) == (9, 4.5)
    assert_identical(tree, state(9))
    assert jax.random.key_impl(tree.key) == jax.random.key_impl(state(0).key)
    assert jax.random.bits(tree.weights["keys"][1]) == jax.random.bits(state(9).weights["keys"][1])


def test_the_newest_are_kept(checkpoints, tmp_path):
    fill(checkpoints, range(1, 6))
    checkpoints.wait()
    assert sorted(p.name for p in (tmp_path / "state").iterdir()) == ["3", "4", "5"]


def test_saving_does_not_see_what_changes_later(checkpoints):
    tree = {"a": np.zeros(100_000, np.float32)}
    pending = checkpoint.save(checkpoints, 1, tree, {})
    tree["a"] += 1
    pending.result()
    assert not checkpoint.restore(checkpoints, tree, 1)[1]["a"].any()


def test_a_limit_deletes_what_is_newer(checkpoints):
    fill(checkpoints, [1, 2, 3])
    assert checkpoint.restore(checkpoints, state(0), 0) is None
    assert [c.step for c in checkpoints.checkpoints] == [1, 2, 3]
    assert checkpoint.restore(checkpoints, state(0), 2)[0] == 2
    assert [c.step for c in checkpoints.checkpoints] == [1, 2]
    fill(checkpoints, [3, 4])  # or Orbax would refuse the step, or drop it as the oldest
    assert checkpoint.restore(checkpoints, state(0), 9)[0] == 4


def test_any_damaged_file_gives_way_to_the_step_before(checkpoints, tmp_path):
    fill(checkpoints, [1, 2])
    checkpoints.close()
    whole = tmp_path / "whole"
    (tmp_path / "state").rename(whole)
    files = [p.relative_to(whole) for p in (whole / "2").rglob("*") if p.is_file() and p.stat().st_size]
    assert len(files) >= 5
    found = []
    for file in files:
        content = (whole / file).read_bytes()
        for damaged in (content[: len(content) // 2], b"", bytes(255 - byte for byte in content), None):
            shutil.rmtree(tmp_path / "state", ignore_errors=True)
            shutil.copytree(whole, tmp_path / "state")
            target = tmp_path / "state" / file
            target.unlink() if damaged is None else target.write_bytes(damaged)
            with checkpoint.open_folder(tmp_path / "state") as opened:
                step, tree, _ = checkpoint.restore(opened, state(0), 9)
            assert_identical(tree, state(step))
            found.append(step)
    assert found.count(1) > len(files)


def test_a_flipped_byte_of_an_array(checkpoints, tmp_path):
    tree = {"a": np.random.default_rng(0).random(5000, np.float32)}
    for step in (1, 2):
        checkpoint.save(checkpoints, step, tree, {}).result()
    largest = max(
        (p for p in (tmp_path / "state" / "2").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(bytes(content))
    assert checkpoint.restore(checkpoints, tree, 9)[0] == 1


def test_another_shape_is_an_error_that_changes_nothing(checkpoints, tmp_path):
    fill(checkpoints, [1, 2])
    with pytest.raises(
        InputError, match=r"step 2 does not fit .* weights/w is \(2, 3\), .* needs \(2, 7\) \(0 more"
    ):
        checkpoint.restore(checkpoints, state(0, width=7), 9)
    with pytest.raises(InputError, match=r"a is absent, the configuration needs \(3,\) \(\d+ more"):
        checkpoint.restore(checkpoints, {"a": np.zeros(3)}, 9)
    assert [c.step for c in checkpoints.checkpoints] == [1, 2]


def test_another_type_is_not_taken_for_the_same(checkpoints):
    checkpoint.save(checkpoints, 1, {"a": np.arange(3, dtype=np.int32)}, {}).result()
    assert checkpoint.restore(checkpoints, {"a": np.zeros(3, np.float32)}, 9) is None


def test_the_digest_sees_path_shape_type_and_bytes():
    trees = [
        {"a": np.zeros(4, np.float32)},
        {"b": np.zeros(4, np.float32)},
        {"a": np.zeros((2, 2), np.float32)},
        {"a": np.zeros(4, np.int32)},
        {"a": -np.zeros(4, np.float32)},
    ]
    assert len({checkpoint.digest(tree) for tree in trees}) == len(trees)


def test_what_is_said_is_json(checkpoints, tmp_path):
    fill(checkpoints, [1])
    checkpoints.wait()
    about = json.loads((tmp_path / "state" / "1" / "_CHECKPOINT_METADATA").read_text())["custom_metadata"]
    assert set(about) == {"seconds", "sha256"}


def test_safetensors_keep_every_shape(tmp_path):
    """Also of a number, such as the steps that statistics were collected for, and of transposed arrays."""
    params = {"steps": np.float32(3), "w": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.ones(2)}
    (tmp_path / "w").write_bytes(checkpoint.to_safetensors(params, {}))
    read = checkpoint.from_safetensors(tmp_path / "w", params)
    assert {name: array.shape for name, array in read.items()} == {"steps": (), "w": (3, 2), "b": (2,)}
    assert all(np.array_equal(read[name], params[name]) for name in params)

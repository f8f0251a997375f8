"""What every evaluator promises, for every registry entry."""

import csv
import inspect
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import masks, networks
from jaxnas.evaluators import REGISTRY
from jaxnas.spaces import blocks
from jaxnas.types import OK, STATUS
from tests.helpers import assert_identical, dataset, differs, takes

B = 6
SPACE = blocks(filters=(4, 6), kernel=(3,), dropout=(0.1, 0.5))


@pytest.fixture(scope="module", params=REGISTRY)
def subject(request, tmp_path_factory):
    """An evaluator that fails now and then if it can, on a round of six architectures."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["architecture", "accuracy", "params"])
        for f in (0, 1):  # dropout 0.5 with 6 filters has no row; the others have three
            for d in (0, 1)[: 2 - f]:
                for repeat in range(3):
                    writer.writerow([SPACE.describe([f, 0, d]), 0.5 + 0.1 * f + 0.01 * repeat, 100 + f])
    data = dataset(n=40, n_validation=12)
    given = {"space": SPACE, "network": networks.blocks(SPACE, (8, 8, 1), 3), "dataset": data}
    factory = REGISTRY[request.param]
    parameters = inspect.signature(factory).parameters.values()
    needs = [p.name for p in parameters if p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD]
    options = takes(factory, path=str(path), noise=0.05, failure_rate=0.3)
    if request.param == "trained":
        options |= {"epochs": 1, "batch_size": 16}
    evaluator = factory(*(given[name] for name in needs), **options)
    evaluate = jax.jit(evaluator.evaluate) if evaluator.jittable else evaluator.evaluate
    it = SimpleNamespace(name=request.param, evaluator=evaluator, evaluate=evaluate)
    it.state = evaluator.init(jax.random.key(0))
    it.keys = jax.random.split(jax.random.key(1), B)
    it.arch = jnp.stack([masks.sample(key, SPACE) for key in jax.random.split(jax.random.key(2), B)])
    it.arch = it.arch.at[0].set(jnp.array([1, 0, 1]))
    _, it.all = evaluate(it.keys, it.state, it.arch)
    it.measures = steady(it, it.all)
    return it


def steady(subject, measures):
    """Without what a repetition need not reproduce."""
    return {name: x for name, x in measures.items() if name not in subject.evaluator.costs}


def rows(measures, index):
    return {name: np.asarray(values)[index] for name, values in measures.items()}


def test_measures_are_finite_or_nan_with_a_status(subject):
    status = np.asarray(subject.measures["status"])
    assert status.dtype == np.int32
    assert ((status >= 0) & (status < len(STATUS))).all()
    assert (status == OK).any()
    if subject.name in ("mock", "table"):
        assert (status != OK).any()
    assert set(subject.all) == {*subject.evaluator.measures, *subject.evaluator.costs, "status"}
    assert "accuracy" in subject.measures
    for name, values in subject.all.items():
        assert values.shape == (B,), name
        if name != "status":
            assert values.dtype == jnp.float32, name
            assert np.isfinite(values)[status == OK].all(), name
    assert np.isnan(subject.measures["accuracy"])[status != OK].all()
    accuracy = np.asarray(subject.measures["accuracy"])[status == OK]
    assert ((accuracy >= 0) & (accuracy <= 1)).all()


def test_the_same_keys_give_the_same_measures(subject):
    state, again = subject.evaluate(subject.keys, subject.state, subject.arch)
    assert_identical(steady(subject, again), subject.measures)
    assert jax.tree.structure(state) == jax.tree.structure(subject.state)


def test_other_keys_give_other_measures(subject):
    _, other = subject.evaluate(jax.random.split(jax.random.key(9), B), subject.state, subject.arch)
    assert differs(steady(subject, other), subject.measures)


def test_the_order_of_a_batch_does_not_matter(subject):
    order = np.array([3, 0, 5, 1, 4, 2])
    _, found = subject.evaluate(subject.keys[order], subject.state, subject.arch[order])
    assert_identical(rows(steady(subject, found), slice(None)), rows(subject.measures, order))


def test_a_child_is_the_same_alone_and_in_any_company(subject):
    for index in ([2], [4, 1], [0, 3, 5, 2]):
        index = np.array(index)
        _, found = subject.evaluate(subject.keys[index], subject.state, subject.arch[index])
        assert_identical(rows(steady(subject, found), slice(None)), rows(subject.measures, index))


def test_one_architecture_twice_with_one_key(subject):
    index = np.array([2, 2, 2])
    _, found = subject.evaluate(subject.keys[index], subject.state, subject.arch[index])
    for i in (1, 2):
        assert_identical(rows(steady(subject, found), i), rows(steady(subject, found), 0))


def test_jittable_evaluators_run_under_vmap_and_debug_nans(subject):
    if not subject.evaluator.jittable:
        assert subject.evaluator.child is not None or subject.name != "trained"
        return
    many = jax.jit(jax.vmap(lambda keys, arch: subject.evaluator.evaluate(keys, subject.state, arch)[1]))
    keys, arch = subject.keys.reshape(2, 3), subject.arch.reshape(2, 3, -1)
    found = {name: np.asarray(values).reshape(B) for name, values in many(keys, arch).items()}
    assert_identical(found, rows(subject.measures, slice(None)))

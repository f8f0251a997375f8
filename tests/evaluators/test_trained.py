"""The population trainer: a child's result depends on nothing but the child."""

import functools
import gc
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas import data, machine, networks, training
from jaxnas.errors import InputError
from jaxnas.evaluators import trained
from jaxnas.spaces import blocks
from jaxnas.training import programs
from jaxnas.training import task as tasks
from jaxnas.training.task import MULTICLASS
from jaxnas.types import DIVERGED, NO_LEGAL_SHAPE, OK, OUT_OF_MEMORY, REJECTED, Dataset, Split
from tests.helpers import assert_close, assert_identical, dataset, differs

SPACE = blocks(filters=(4, 6), kernel=(3,), dropout=(0.1, 0.5))
NETWORK = networks.blocks(SPACE, (8, 8, 1), 3)
DATA = dataset()  # 60 images in batches of 16: 4 steps an epoch
ARCH = np.array([[0, 0, 0], [1, 0, 1], [0, 0, 1], [1, 0, 0], [0, 0, 1]], np.int32)  # two structures
KEYS = jax.random.split(jax.random.key(1), len(ARCH))
STATE = {"root": jax.random.key(0)}


COSTS = {"peak_bytes", "train_seconds", "examples_per_second"}


def make(network=NETWORK, dataset=DATA, limits=None, **options):
    recipe = {"epochs": 2, "batch_size": 16, "learning_rate": 0.01}
    return trained(network, dataset, limits, **{**recipe, **options})


def results(evaluator, index=range(5)):
    """Measures that repeat, and weights, of some children, sorted back by child."""
    index = np.array(list(index))
    _, measures = evaluator.evaluate(KEYS[index], STATE, ARCH[index])
    back = np.argsort(index)
    steady = {n: x[back] for n, x in measures.items() if n not in COSTS}
    params = [
        params_of(evaluator, KEYS[i], ARCH[i]) if measures["status"][lane] == OK else None
        for lane, i in enumerate(index)
    ]
    return steady, [params[lane] for lane in back]


def params_of(evaluator, key, arch, state=STATE):
    """The parameters of a child that succeeded, which is not trained again if it is of the last round."""
    before = evaluator.stats()["children"]
    params, outputs = evaluator.child(key, state, arch)
    assert evaluator.stats()["children"] == before
    assert outputs.shape[0] > 0
    return params


@pytest.fixture(scope="module")
def together():
    """All children, grouped by default, with their evaluator."""
    evaluator = make()
    return evaluator, *results(evaluator)


@pytest.mark.optimized
def test_measures(together):
    _, measures, weights = together
    assert set(measures) == {"accuracy", "auc", "loss", "constant", "epochs", "params", "flops", "status"}
    assert measures["epochs"].tolist() == [2] * 5
    assert measures["flops"][0] == 2 * (8 * 8 * 9 * 4 + 4 * 4 * 4 * 3)
    assert (measures["status"] == OK).all()
    assert measures["params"].tolist() == [
        training.count_params(NETWORK, NETWORK.plan(arch)[0]) for arch in ARCH
    ]
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(weights))
    assert len(np.unique(measures["loss"])) == len(ARCH)


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("options", "index"),
    [
        ({"group_size": 1, "workers": 1}, range(5)),
        ({"group_size": 3, "workers": 1}, range(5)),
        ({"group_size": 2, "workers": 2}, (4, 2, 0, 3, 1)),
    ],
    ids=["one by one", "in groups of 3", "reordered in groups of 2"],
)
def test_grouping_order_and_workers_do_not_matter(together, options, index):
    assert_identical(results(make(**options), index), together[1:])


@pytest.mark.optimized
def test_alone_in_a_second_round(together):
    evaluator, measures, weights = together
    before = evaluator.stats()
    for i in (3, 0):
        alone, (found,) = results(evaluator, [i])
        assert_identical(alone, {n: x[[i]] for n, x in measures.items()})
        assert_identical(found, weights[i])
    after = evaluator.stats()
    assert after["programs"] <= 2 * jax.local_device_count()  # structures × devices, in groups of one
    assert after["children"] == before["children"] + 2


@pytest.mark.optimized
def test_streaming_changes_nothing(together, monkeypatch):
    monkeypatch.setattr(programs, "device_bytes", lambda: 6000)  # 3,000 for 3,840 bytes of images
    kinds = []
    get = programs.Programs.get

    def spy(self, place, name, *given):
        kinds.append(name[0])
        return get(self, place, name, *given)

    monkeypatch.setattr(programs.Programs, "get", spy)
    monkeypatch.setattr(programs.Programs, "available_bytes", lambda self: 2**30)
    measures, weights = results(make(), [0, 2])  # of one structure
    assert set(kinds) == {"begin", "advance", "close", "finish"}
    assert kinds.count("advance") == 2 * 2 * 4
    assert_identical(measures, {name: values[[0, 2]] for name, values in together[1].items()})
    assert_identical(weights, [together[2][0], together[2][2]])


def limited(monkeypatch, most, message="RESOURCE_EXHAUSTED: out of memory"):
    """Programs of more than `most` children fail as a device does; returns the sizes tried."""
    get, sizes = programs.Programs.get, []

    def short_of_memory(self, place, name, function, each, shared):
        program = get(self, place, name, function, each, shared)

        def call(each, shared):
            sizes.append(len(jax.tree.leaves(each)[0]))
            if sizes[-1] > most:
                raise jax.errors.JaxRuntimeError(message)
            return program.call(each, shared)

        return program._replace(call=call)

    monkeypatch.setattr(programs.Programs, "get", short_of_memory)
    return sizes


@pytest.mark.optimized
def test_a_group_too_large_is_halved(together, monkeypatch):
    sizes = limited(monkeypatch, 1)
    assert_identical(results(make(group_size=3, workers=1)), together[1:])
    assert sorted(sizes) == [1, 1, 1, 1, 1, 2, 2, 3]


@pytest.mark.optimized
def test_programs_leave_room_for_other_memory_mappings(monkeypatch):
    """Past vm.max_map_count XLA loses compiled code and the process dies: one of 110 deep networks did."""
    space = blocks(filters=(1, 2, 3, 4), kernel=(3,), dropout=(0.1,))
    evaluator = make(networks.blocks(space, (8, 8, 1), 3), epochs=1, workers=1, xla_level=0)
    arch = np.array([[i, 0, 0] for i in range(4)], np.int32)
    evaluator.evaluate(KEYS[:1], STATE, arch[:1])
    room = machine.mappings() + 250  # for about one program more
    monkeypatch.setattr(machine, "most_mappings", lambda: 2 * room)
    evaluator.evaluate(KEYS[:4], STATE, arch)
    assert evaluator.stats()["programs"] >= 4
    assert 0 < machine.mappings() <= room


@pytest.mark.optimized
def test_repeats():
    """The mean of trainings from other keys, their spread, and the weights of the best of them."""
    found, kept = results(make(repeats=3))
    again = [results(make(), [0])]
    for repeat in (1, 2):
        evaluator = make()
        key = jax.random.fold_in(KEYS[0], repeat)
        _, measures = evaluator.evaluate(key[None], STATE, ARCH[:1])
        steady = {n: x for n, x in measures.items() if n not in COSTS}
        again.append((steady, [params_of(evaluator, key, ARCH[0])]))
    for name in ("accuracy", "loss", "auc"):
        values = [float(measures[name][0]) for measures, _ in again]
        assert float(found[name][0]) == pytest.approx(np.mean(values), rel=1e-5)
    accuracies = [float(measures["accuracy"][0]) for measures, _ in again]
    assert float(found["accuracy_std"][0]) == pytest.approx(np.std(accuracies, ddof=1), abs=1e-6)
    best = min(again, key=lambda each: each[0]["loss"][0])
    assert_identical(kept[0], best[1][0])


@pytest.mark.optimized
def test_the_test_split_is_never_read(together):
    class Poison:
        def __getattr__(self, name):
            raise AssertionError(f"the test split was read: {name}")

    evaluator = make(dataset=DATA._replace(test=Poison()))
    assert_identical(results(evaluator, [0])[1][0], together[2][0])


def test_programs_are_counted_and_kept():
    evaluator = make(group_size=2, workers=1)
    results(evaluator)
    first = evaluator.stats()
    assert first["programs"] == 3  # 3 and 2 children of two structures: groups of 2 and 1, and of 2
    assert first["children"] == 5
    assert 0 < first["waited_seconds"] <= first["compile_seconds"] + 0.01
    assert 0 < first["training_seconds"] < first["evaluate_seconds"] - first["waited_seconds"]
    results(evaluator)
    assert evaluator.stats()["programs"] == 3


def test_vectorized_groups_are_filled_up_to_a_power_of_two():
    """Three and four children of a structure share a program; filling changes no result but by rounding."""
    evaluator = make(population="vmap", optimizer="sgd")
    _, three = evaluator.evaluate(KEYS[:3], STATE, ARCH[[0, 0, 0]])
    _, four = evaluator.evaluate(KEYS[:4], STATE, ARCH[[0, 0, 0, 0]])
    stats = evaluator.stats()
    assert (stats["programs"], stats["children"]) == (1, 7)
    assert_identical(three["loss"], four["loss"][:3])
    assert four["peak_bytes"][0] == three["peak_bytes"][0]  # a quarter of the same program's
    bounded = make(population="vmap", optimizer="sgd", group_size=3)
    _, again = bounded.evaluate(KEYS[:3], STATE, ARCH[[0, 0, 0]])
    np.testing.assert_allclose(again["loss"], three["loss"], rtol=1e-4)
    assert again["peak_bytes"][0] != three["peak_bytes"][0]  # a third of that of three


def test_vmap_agrees_to_rounding(together):
    measures, weights = results(make(population="vmap", optimizer="sgd"))
    expected = results(make(population="map", optimizer="sgd"))
    assert_close(weights, expected[1], rtol=1e-4, atol=1e-5)
    for name in ("loss", "params", "status"):
        np.testing.assert_allclose(measures[name], expected[0][name], rtol=1e-4)


def test_a_child_too_large_fails_alone(monkeypatch):
    limited(monkeypatch, 0)
    measures, weights = results(make(group_size=3))
    assert (measures["status"] == OUT_OF_MEMORY).all()
    assert np.isnan(measures["accuracy"]).all()
    assert weights == [None] * 5


def test_the_memory_bounds_a_group_before_it_runs(monkeypatch):
    """By the compiler's analysis: a group that needs more is halved, a child that does is not run."""
    group = KEYS, STATE, ARCH[[0, 2, 4, 0, 2]]
    peaks, get = [], programs.Programs.get

    def watched(*arguments):
        peaks.append(get(*arguments).peak_bytes)
        return get(*arguments)

    monkeypatch.setattr(programs.Programs, "get", watched)
    together = make(population="vmap", group_size=5)
    together.evaluate(*group)
    data = sum(x.nbytes for x in (*DATA.train, *DATA.validation))
    too_little = data + max(peaks) - 1
    monkeypatch.setattr(programs, "device_bytes", lambda: too_little)
    evaluator = make(population="vmap", group_size=5, memory_fraction=1.0, resident_mb=1)
    _, measures = evaluator.evaluate(*group)
    assert (measures["status"] == OK).all()
    # Five were compiled and not run; then two, and three.
    assert (evaluator.stats()["programs"], evaluator.stats()["children"]) == (3, 5)
    evaluator = make(memory_fraction=1e-9, resident_mb=1)
    measures, weights = results(evaluator)
    assert (measures["status"] == OUT_OF_MEMORY).all()
    assert weights == [None] * 5
    assert evaluator.stats()["children"] == 0


def test_constraints_reject_before_training(together):
    _, measures, _ = together
    smaller, larger = measures["params"][0], measures["params"][1]
    for limits in ({"params": smaller}, {"flops": measures["flops"][0]}):
        evaluator = make(limits=limits)
        found, kept = results(evaluator)
        rejected = found["params"] == larger
        assert (found["status"] == np.where(rejected, REJECTED, OK)).all()
        assert np.isnan(found["accuracy"][rejected]).all()
        assert_identical(found["flops"], measures["flops"])
        assert [w is None for w in kept] == rejected.tolist()
        assert evaluator.stats()["children"] == 3


def test_children_that_differ_in_width_share_a_padded_program(together):
    _, measures, weights = together
    evaluator = make(padding="width")
    found, kept = results(evaluator)
    assert evaluator.stats()["programs"] <= jax.local_device_count()  # of one structure, in groups of one
    assert_close(found, measures, rtol=1e-3, atol=1e-6)
    assert_close(kept, weights, rtol=1e-2, atol=1e-4)
    costly = make(padding="width", compile_gflops=0.0)
    results(costly)
    assert costly.stats()["programs"] == 2 * jax.local_device_count()


def test_early_stopping_saves_steps(together):
    """Children that stop after 2 of 10 epochs take the steps of two: every step calls back."""
    steps = []

    def apply(params, structure, knobs, inputs, key):
        if key is not None:
            jax.debug.callback(lambda: steps.append(1))
        return NETWORK.apply(params, structure, knobs, inputs, key)

    network = NETWORK._replace(apply=apply)
    evaluator = make(network, patience=1, epochs=10, weights="best", best_of=2)
    measures, _ = results(evaluator)
    jax.effects_barrier()
    assert set(evaluator.measures) >= {"accuracy_best_of_2", "epochs"}
    assert (measures["epochs"] < 10).any()
    assert len(steps) == 4 * measures["epochs"].sum()
    assert (measures["accuracy_best_of_2"] <= measures["accuracy"] + 1e-6).all()


def test_memory_does_not_grow_with_the_trials():
    """Many small children of several structures leave no arrays, mappings or objects behind.

    Counted, for how much memory a process has says little on a busy machine.
    """
    space = blocks(filters=(1, 2, 3, 4), kernel=(1,), dropout=(0.1,))
    evaluator = make(networks.blocks(space, (8, 8, 1), 3), epochs=1)
    keys, kept = jax.random.split(jax.random.key(5), 40), []
    arch = np.array([[i % 4, 0, 0] for i in range(40)], np.int32)
    for _ in range(6):
        evaluator.evaluate(keys, STATE, arch)
        gc.collect()
        kept.append((len(jax.live_arrays()), machine.mappings(), len(gc.get_objects())))
    assert evaluator.stats()["children"] == 240
    arrays, mappings, objects = np.transpose(kept)
    assert arrays[-1] == arrays[2]
    assert mappings[-1] - mappings[2] < 40  # of a program there are dozens
    assert objects[-1] - objects[2] < 60  # one for every second child


def test_few_programs_are_kept(monkeypatch):
    monkeypatch.setattr(programs, "KEPT", 1)
    evaluator = make(workers=1)
    before = results(evaluator)
    assert evaluator.stats()["programs"] == 2
    assert_identical(results(evaluator), before)
    assert evaluator.stats()["programs"] in (3, 4)


def test_other_errors_are_not_swallowed(monkeypatch):
    limited(monkeypatch, 0, "INTERNAL: something else")
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        results(make())


def test_a_diverged_child_is_a_failed_trial():
    measures, weights = results(make(optimizer="sgd", learning_rate=1e30), [0, 1])
    assert (measures["status"] == DIVERGED).all()
    assert np.isnan(measures["accuracy"]).all()
    assert np.isnan(measures["loss"]).all()
    assert weights == [None, None]


def test_images_too_small_for_the_network():
    space = blocks(num_blocks=4)
    evaluator = make(networks.blocks(space, (8, 8, 1), 3))
    _, measures = evaluator.evaluate(KEYS[:2], STATE, np.zeros((2, 12), np.int32))
    assert (measures["status"] == NO_LEGAL_SHAPE).all()
    assert np.isnan(measures["accuracy"]).all()
    assert evaluator.stats()["programs"] == 0


def test_other_keys_and_other_roots_train_another_child(together):
    evaluator, _, weights = together
    evaluator.evaluate(KEYS[1:2], STATE, ARCH[:1])
    assert differs(params_of(evaluator, KEYS[1], ARCH[0]), weights[0])
    other = {"root": jax.random.key(7)}
    evaluator.evaluate(KEYS[:1], other, ARCH[:1])
    assert differs(params_of(evaluator, KEYS[0], ARCH[0], other), weights[0])


def test_a_child_of_an_earlier_round_is_trained_again_to_the_bit(together):
    evaluator, _, weights = together
    evaluator.evaluate(KEYS[2:3], STATE, ARCH[2:3])
    before = evaluator.stats()["children"]
    params, outputs = evaluator.child(KEYS[1], STATE, ARCH[1])
    assert evaluator.stats()["children"] == before + 1
    assert_identical(params, weights[1])
    assert outputs.shape == (len(DATA.validation.labels), 3)
    params_of(evaluator, KEYS[2], ARCH[2])  # the last round's children are still there


def test_a_child_that_fails_is_none():
    evaluator = make(optimizer="sgd", learning_rate=1e30)
    assert evaluator.child(KEYS[0], STATE, ARCH[0]) is None


def other_task(task, weights=None):
    rng = np.random.default_rng(0)

    def split(n):
        base = dataset(n=n, classes=2).train
        labels = {
            "multiclass": base.labels,
            "binary": base.labels,
            "multi_label": np.stack([base.labels, 1 - base.labels, rng.integers(0, 2, n)], 1).astype(
                np.float32
            ),
            "regression": np.stack([base.labels, 2.0 - base.labels], 1).astype(np.float32),
        }[task]
        return Split(base.inputs, labels)

    outputs = {"multiclass": 2, "binary": 2, "multi_label": 3, "regression": 2}[task]
    names = tuple(f"class {c}" for c in range(outputs))
    return Dataset("other", tasks.named(task), split(64), split(20), None, names, weights)


@pytest.mark.parametrize(
    ("task", "weights"),
    [
        ("binary", None),
        ("multi_label", None),
        ("regression", None),
        ("multiclass", np.array([1, 9], np.float32)),
        ("binary", np.array([1, 9], np.float32)),
    ],
)
def test_every_task_is_learned(task, weights):
    given = other_task(task, weights)
    network = networks.blocks(SPACE, (8, 8, 1), given.num_outputs)
    evaluator = make(network, given, epochs=8, learning_rate=0.02)
    _, measures = evaluator.evaluate(KEYS[:1], STATE, ARCH[:1])
    assert set(measures) == {*given.task.names, "epochs", "params", "flops", "status"} | COSTS
    assert measures["status"].tolist() == [OK]
    # Better than the best constant: probability 1/2 of each class or label, the mean of the targets.
    constant = np.zeros((20, given.num_outputs), np.float32)
    if task == "regression":
        constant += given.validation.labels.mean(axis=0)
    by_chance = given.task.measures(constant, given.validation.labels)["loss"]
    assert measures["loss"][0] < 0.8 * by_chance
    if task in ("binary", "multiclass"):
        assert measures["accuracy"][0] >= 0.9


def test_class_weights_change_the_training():
    weights = [None, np.array([1, 1], np.float32), np.array([1, 9], np.float32)]
    found = []
    for w in weights:
        evaluator = make(networks.blocks(SPACE, (8, 8, 1), 2), other_task("multiclass", w), optimizer="sgd")
        evaluator.evaluate(KEYS[:1], STATE, ARCH[:1])
        found.append(params_of(evaluator, KEYS[0], ARCH[0]))
    assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
    assert differs(
        jax.tree.map(lambda x: np.round(x, 4), found[1]), jax.tree.map(lambda x: np.round(x, 4), found[2])
    )


def test_against_a_plain_loop():
    """One child trained step by step with optax, from the same key and in the same order."""
    evaluator = make(optimizer="sgd", learning_rate=0.05, weight_decay=0.01)
    _, measures = evaluator.evaluate(KEYS[1:2], STATE, ARCH[1:2])
    structure, knobs = NETWORK.plan(ARCH[1])
    key_child = jax.random.fold_in(KEYS[1], 0)  # of the weights before any restart
    params = NETWORK.init(jax.random.fold_in(key_child, 0), structure, knobs)
    tx = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.05))
    state, step = tx.init(params), 0

    def normalized(images):
        return jnp.asarray((images.astype(np.float32) / 255 - 0.5) / 0.5)

    @jax.jit
    def gradient(params, x, y, key):
        return jax.grad(lambda p: MULTICLASS.loss(NETWORK.apply(p, structure, knobs, x, key), y, None))(
            params
        )

    for epoch in range(2):
        order = np.asarray(jax.random.permutation(jax.random.fold_in(STATE["root"], epoch), 60))
        for rows in np.resize(order, 64).reshape(4, 16):  # the last batch is filled from the front
            key = jax.random.fold_in(jax.random.fold_in(key_child, 1), step)
            g = gradient(
                params, normalized(DATA.train.inputs[rows]), jnp.asarray(DATA.train.labels[rows]), key
            )
            updates, state = tx.update(g, state, params)
            params, step = optax.apply_updates(params, updates), step + 1
    assert_close(params_of(evaluator, KEYS[1], ARCH[1]), params, rtol=1e-4, atol=1e-6)
    outputs = NETWORK.apply(params, structure, knobs, normalized(DATA.validation.inputs), None)
    expected = MULTICLASS.measures(np.asarray(outputs), DATA.validation.labels)
    for name, value in expected.items():
        assert float(measures[name][0]) == pytest.approx(value, rel=1e-4)


def test_digits_are_learned():
    given = data.load("digits", limit=600)
    space = blocks(filters=(8,), kernel=(3,), dropout=(0.1,))
    losses, accuracies = [], []
    for epochs in (1, 6):
        evaluator = make(networks.blocks(space, (8, 8, 1), 10), given, epochs=epochs, batch_size=32)
        _, measures = evaluator.evaluate(KEYS[:1], STATE, np.zeros((1, 3), np.int32))
        losses.append(float(measures["loss"][0]))
        accuracies.append(float(measures["accuracy"][0]))
    assert losses[1] < 0.7 * losses[0]
    assert accuracies[1] > 0.85


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("lowering", ["xla", "gemm"])
def test_a_group_lowers_for_accelerators(platform, lowering):
    network = networks.blocks(blocks(), (28, 28, 1), 11, lowering=lowering)
    data = dataset(n=20, shape=(28, 28, 1))
    trainer = training.make(network, data, programs.AXIS, batch_size=8, patience=1)
    structure, knobs = network.plan([1, 1, 0])
    rates = {name: np.stack([rate] * 3) for name, rate in trainer.rates.items()}
    each = (
        jax.random.split(jax.random.key(0), 3),
        {"network": {"dropout": np.stack([knobs["dropout"]] * 3)}, **rates},
    )
    images = np.zeros((20, 28, 28, 1), np.uint8)
    labels = np.zeros(20, np.int32)
    shared = jax.tree.map(jnp.asarray, (images, labels, np.zeros((5, 2, 8), np.int32), (images, labels)))
    group = programs.population(functools.partial(trainer.fit, structure), False)
    text = jax.jit(group).trace(each, shared).lower(lowering_platforms=(platform,)).as_text()
    assert ("convolution" in text) == (lowering == "xla")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adm"}, "trainer.optimizer: optax has no optimizer 'adm'"),
        ({"optimizer": "chain"}, "trainer.optimizer"),
        ({"std": 0.0}, "trainer.std"),
        ({"epochs": 0}, "trainer.epochs: got 0"),
        ({"batch_size": 0}, "trainer.batch_size"),
        ({"group_size": -1}, "trainer.group_size"),
        ({"workers": -1}, "trainer.workers"),
        ({"resident_mb": -1}, "trainer.resident_mb"),
        ({"repeats": 0}, "trainer.repeats: got 0; it takes 1 or more"),
        ({"memory_fraction": 0.0}, "trainer.memory_fraction: got 0.0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        make(**options)


DIGEST = """
import sys, jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
from tests.evaluators.test_trained import digest
print(jax.local_device_count(), digest())
"""


def digest():
    """Of the measures and parameters of a round of small children."""
    space = blocks(filters=(16, 32), kernel=(5,), dropout=(0.5,))
    given = dataset(n=96, shape=(16, 16, 1))
    evaluator = trained(networks.blocks(space, (16, 16, 1), 3), given, epochs=1, batch_size=32)
    archs = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0]], np.int32)
    _, measures = evaluator.evaluate(KEYS[:3], STATE, archs)
    steady = {name: x for name, x in measures.items() if name not in COSTS}
    leaves = jax.tree.leaves([steady, *map(functools.partial(params_of, evaluator), KEYS[:3], archs)])
    return hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in leaves)).hexdigest()


def test_the_number_of_devices_does_not_matter():
    """At an equal NPROC, the size of XLA's thread pool, 1 and 8 devices give the same bits."""
    found = {}
    for devices in (1, 8):
        child = subprocess.run(
            [sys.executable, "-c", DIGEST, str(devices)],
            env={**os.environ, "NPROC": "8", "JAX_PLATFORMS": "cpu"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        assert child.returncode == 0, child.stderr
        count, found[devices] = child.stdout.split()
        assert int(count) == devices
    assert len(set(found.values())) == 1, found

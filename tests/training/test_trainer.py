"""The training of one child as pure functions, against a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas import networks, training
from jaxnas.errors import InputError
from jaxnas.networks.ops.convolution import Spec, conv
from jaxnas.spaces import blocks
from jaxnas.training import measured
from jaxnas.training.images import STRENGTHS
from jaxnas.training.programs import AXIS, population
from jaxnas.training.task import MULTICLASS, REGRESSION
from jaxnas.types import Network, Split
from tests.helpers import assert_close, assert_identical, dataset, differs

SPACE = blocks(filters=(4,), kernel=(3,), dropout=(0.25,))
NETWORK = networks.blocks(SPACE, (6, 6, 1), 3)
DATA = dataset(n=32, n_validation=10, shape=(6, 6, 1))
STRUCTURE, PLANNED = NETWORK.plan([0, 0, 0])
KEY = jax.random.key(0)
IMAGES, LABELS = jnp.asarray(DATA.train.inputs), jnp.asarray(DATA.train.labels)
SEEN = tuple(map(jnp.asarray, DATA.validation))
CHANCE = 0.4  # of 10 labels 0, 1, 2, 0, … the most frequent one has 4


def make(axis=None, **recipe):
    return training.make(NETWORK, DATA, axis, **{"batch_size": 8, **recipe})


def orders(epochs):
    rng = np.random.default_rng(0)
    return jnp.asarray(np.stack([rng.permutation(32).reshape(4, 8) for _ in range(epochs)]), jnp.int32)


def knobs(trainer):
    return {"network": PLANNED, **jax.tree.map(jnp.asarray, trainer.rates)}


def fit(trainer, key=KEY):
    function = population(lambda *given: trainer.fit(STRUCTURE, *given), True)
    each = jax.tree.map(lambda x: x[None], (key, knobs(trainer)))
    shared = (IMAGES, LABELS, orders(trainer.passes), SEEN)
    return jax.tree.map(lambda x: x[0], jax.jit(function)(each, shared))


class Reference:
    """One child, trained by a plain loop with optax."""

    def __init__(self, tx, epochs=5, patience=None, weights="last", restarts=0, chance=CHANCE, factor=0.4):
        self.epochs = self.restarted = 0
        self.scores = []
        self.loss = jax.jit(jax.value_and_grad(self.loss_of))
        self.begin(tx)
        best, best_score, best_epoch, epoch = self.params, -np.inf, 0, 0
        every_order = orders(epochs + restarts)
        while epoch < epochs:
            for rows in every_order[self.epochs]:
                key = jax.random.fold_in(
                    jax.random.fold_in(jax.random.fold_in(KEY, self.restarted), 1), self.step
                )
                x = (IMAGES[rows].astype(jnp.float32) / 255 - 0.5) / 0.5
                value, gradient = self.loss(self.params, x, LABELS[rows], key)
                with jax.numpy_dtype_promotion("standard"):
                    updates, self.state = self.tx.update(gradient, self.state, self.params)
                self.params, self.step = optax.apply_updates(self.params, updates), self.step + 1
                if not np.isfinite(value):
                    return
            self.epochs, epoch = self.epochs + 1, epoch + 1
            score = np.mean(np.argmax(self.outputs(self.params), -1) == DATA.validation.labels)
            self.scores.append(score)
            if score > best_score:
                best, best_score, best_epoch = self.params, score, epoch
            if epoch == 1 and score <= chance and self.restarted < restarts:
                self.restarted += 1
                self.begin(lambda rate: tx(rate * factor**self.restarted))
                best, best_score, best_epoch, epoch, self.scores = self.params, -np.inf, 0, 0, []
            elif patience and epoch - best_epoch >= patience:
                break
        self.params = best if weights == "best" else self.params

    def begin(self, tx):
        self.tx, self.step = tx(0.05), 0
        self.params = NETWORK.init(
            jax.random.fold_in(jax.random.fold_in(KEY, self.restarted), 0), STRUCTURE, PLANNED
        )
        with jax.numpy_dtype_promotion("standard"):
            self.state = self.tx.init(self.params)

    def loss_of(self, params, x, y, key):
        return MULTICLASS.loss(NETWORK.apply(params, STRUCTURE, PLANNED, x, key), y, None)

    def outputs(self, params):
        x = (DATA.validation.inputs.astype(np.float32) / 255 - 0.5) / 0.5
        return np.asarray(NETWORK.apply(params, STRUCTURE, PLANNED, jnp.asarray(x), None))


@pytest.mark.parametrize(
    ("recipe", "reference"),
    [
        ({"optimizer": "sgd", "epochs": 2}, {"tx": optax.sgd, "epochs": 2}),
        (
            {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "epochs": 2},
            {
                "tx": lambda r: optax.chain(
                    optax.add_decayed_weights(0.1), optax.sgd(r, momentum=0.9, nesterov=True)
                ),
                "epochs": 2,
            },
        ),
        (
            {"optimizer": "sgd", "schedule": "cosine", "epochs": 3},
            {"tx": lambda r: optax.sgd(optax.cosine_decay_schedule(r, 12)), "epochs": 3},
        ),
        (
            {"schedule": "step", "decay_rate": 0.2, "decay_epochs": 2, "epochs": 5, "momentum": 0.5},
            {
                "tx": lambda r: optax.adam(
                    optax.piecewise_constant_schedule(r, {8: 0.2, 16: 0.2}), b1=0.5
                )
            },
        ),
        (
            {"optimizer": "sgd", "patience": 2, "weights": "best", "epochs": 8},
            {"tx": optax.sgd, "patience": 2, "weights": "best", "epochs": 8},
        ),
        (
            {"optimizer": "sgd", "restarts": 2, "restart_factor": 0.5, "chance": 0.999, "epochs": 2},
            {"tx": optax.sgd, "restarts": 2, "factor": 0.5, "chance": 0.999, "epochs": 2},
        ),
        (
            {"optimizer": "sgd", "restarts": 2, "patience": 1, "weights": "best", "best_of": 3, "epochs": 5},
            {"tx": optax.sgd, "restarts": 2, "patience": 1, "weights": "best"},
        ),
    ],
    ids=["sgd", "momentum and L2", "cosine", "step", "patience", "restarts", "everything"],
)  # fmt: skip
def test_against_a_plain_loop(recipe, reference):
    fitted = fit(make(learning_rate=0.05, **recipe))
    expected = Reference(**reference)
    assert int(fitted.epochs) == expected.epochs
    if "restarts" in recipe and "chance" in recipe:
        assert expected.restarted == 2
    if "patience" in recipe:
        assert expected.epochs < recipe["epochs"]
    assert_close(fitted.params, expected.params, rtol=2e-3, atol=2e-5)
    np.testing.assert_allclose(fitted.outputs, expected.outputs(expected.params), rtol=2e-3, atol=1e-4)
    if "best_of" in recipe:
        assert float(fitted.best_of) == pytest.approx(max(expected.scores[-3:]))


def line(arch):
    """A network of one pixel, its weights drawn as zeros: logits 0 and w·x + b, where x is −1 or 1."""
    del arch
    return "a line", {}


LINE = Network(
    plan=line,
    init=lambda key, structure, knobs: jnp.zeros(2),
    apply=lambda params, structure, knobs, x, key: jnp.stack(
        [jnp.zeros(len(x)), params[0] * x[:, 0, 0, 0] + params[1]], axis=1
    ),
)


@pytest.mark.parametrize(
    ("measure", "best", "restarted"),
    [(None, 1, True), ("balanced_accuracy", 2, True), ("loss", 2, False)],
)
def test_one_measure_says_which_epoch_is_best_and_what_is_chance(measure, best, restarted):
    pixels = np.array([0] * 5 + [255] * 5, np.uint8).reshape(10, 1, 1, 1)
    labels = np.array([0] * 8 + [1] * 2, np.int32)  # always 0 is right for 0.8 of them
    task = MULTICLASS if measure is None else measured.measured_by(MULTICLASS, measure)
    split = Split(pixels, labels)
    given = DATA._replace(task=task, train=split, validation=split, classes=("a", "b"))

    def after(first, second, **recipe):
        """The training after two epochs that end with these weights."""
        trainer = training.make(LINE, given, batch_size=5, weights="best", **recipe)
        child = "a line", KEY, {"network": {}, **trainer.rates}
        seen = jnp.asarray(pixels), jnp.asarray(labels)
        carry = trainer.begin(*child, seen)
        for params in (first, second):
            carry = trainer.close(*child, carry._replace(params=jnp.array(params)), seen)
        return carry

    always_0, by_pixel = [0.0, -9.0], [4.0, 1.0]  # accuracies 0.8 and 0.7; recalls 1, 0 and 5/8, 1
    assert int(after(always_0, by_pixel).best_epoch) == best
    hesitant = [4.3, -4.7]  # always 0, with probability 3/5 where the pixel is bright: a loss of 0.337
    assert int(after(hesitant, by_pixel, restarts=1).restarts) == restarted  # that of the constant is 0.500


@pytest.mark.optimized
def test_training_can_be_cut_anywhere():
    """By epochs into calls of `run`, and within them into calls of `advance`, to the bit."""
    trainer = make(optimizer="sgd", epochs=3, weights="best", learning_rate=0.05)
    whole, order = fit(trainer), orders(3)
    begin, advance, close, run, finish = (
        jax.jit(population(lambda *given, f=f: f(STRUCTURE, *given), True))
        for f in (trainer.begin, trainer.advance, trainer.close, trainer.run, trainer.finish)
    )
    each = jax.tree.map(lambda x: x[None], (KEY, knobs(trainer)))
    carry = begin(each, (SEEN,))
    carry = run((*each, carry), (IMAGES, LABELS, order[:1], SEEN))
    for rows in (order[1, :1], order[1, 1:]):
        carry = advance((*each, carry), (IMAGES, LABELS, rows))
    carry = close((*each, carry), (SEEN,))
    assert bool(trainer.live(jax.tree.map(lambda x: x[0], carry)))
    carry = run((*each, carry), (IMAGES, LABELS, order[2:], SEEN))
    assert not bool(trainer.live(jax.tree.map(lambda x: x[0], carry)))
    fitted = jax.tree.map(lambda x: x[0], finish((*each, carry), (SEEN,)))
    assert_identical(fitted, whole)


def group(trainer, keys):
    over = population(lambda *given: trainer.fit(STRUCTURE, *given), False)
    each = keys, jax.tree.map(lambda x: jnp.stack([x] * len(keys)), knobs(trainer))
    return jax.jit(over)(each, (IMAGES, LABELS, orders(trainer.passes), SEEN))


def test_a_stopped_child_of_a_vectorized_group_is_frozen():
    recipe = {"optimizer": "sgd", "patience": 1, "weights": "last", "epochs": 6, "learning_rate": 0.05}
    keys = jax.random.split(jax.random.key(3), 6)
    together = group(make(AXIS, **recipe), keys)
    assert len(set(together.epochs.tolist())) > 1
    for i, key in enumerate(keys):
        alone = fit(make(**recipe), key)
        assert int(alone.epochs) == int(together.epochs[i])
        assert_close(jax.tree.map(lambda x, i=i: x[i], together.params), alone.params, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("axis", [None, AXIS])
def test_a_loss_that_is_not_finite_ends_the_child_at_once(axis):
    trainer = make(axis, optimizer="sgd", learning_rate=1e30, epochs=5, restarts=2)
    fitted = jax.tree.map(lambda x: x[0], group(trainer, KEY[None])) if axis else fit(trainer)
    assert not bool(fitted.finite)
    assert int(fitted.epochs) == 0
    if axis is None:
        carry = trainer.begin(STRUCTURE, KEY, knobs(trainer), SEEN)
        carry = trainer.advance(STRUCTURE, KEY, knobs(trainer), carry, IMAGES, LABELS, orders(1)[0])
        assert int(carry.step) == 2  # the second step saw what the first one did


@pytest.mark.parametrize("n", [1, 7, 8, 9, 10])
def test_predictions_of_any_number_of_images(n):
    trainer = make(mean=0.2, std=2.0, batch_size=4)
    seen = SEEN[0][:n], SEEN[1][:n]
    carry = trainer.begin(STRUCTURE, KEY, knobs(trainer), seen)
    carry = carry._replace(params=NETWORK.init(KEY, STRUCTURE, PLANNED))
    outputs = trainer.finish(STRUCTURE, KEY, knobs(trainer), carry, seen).outputs
    x = (DATA.validation.inputs[:n].astype(np.float32) / 255 - 0.2) / 2.0
    expected = NETWORK.apply(carry.params, STRUCTURE, PLANNED, jnp.asarray(x), None)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.optimized
def test_rates_are_knobs():
    """Other rates run in the same program, and weight decay shrinks the weights."""
    trainer = make(optimizer="adamw", epochs=1)

    @jax.jit
    def train(rate, decay):
        given = {"network": PLANNED, "learning_rate": rate, "weight_decay": decay}
        return trainer.fit(STRUCTURE, KEY, given, IMAGES, LABELS, orders(1), SEEN).params

    rates = [(0.0, 0.0), (0.05, 0.0), (0.05, 5.0)]
    still, plain, decayed = (train(*map(jnp.float32, pair)) for pair in rates)
    assert train._cache_size() == 1
    assert_identical(
        still, NETWORK.init(jax.random.fold_in(jax.random.fold_in(KEY, 0), 0), STRUCTURE, PLANNED)
    )
    norms = [sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(p)) for p in (plain, decayed)]
    assert norms[1] < norms[0]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "lion", "rmsprop", "adagrad"])
def test_optimizers_of_optax(optimizer):
    trainer = make(optimizer=optimizer)
    carry = trainer.begin(STRUCTURE, KEY, knobs(trainer), SEEN)
    after = jax.eval_shape(
        lambda c: trainer.advance(STRUCTURE, KEY, knobs(trainer), c, IMAGES, LABELS, orders(1)[0]), carry
    )
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), carry
    )


@pytest.mark.parametrize("name", ["adm", "chain", "__doc__", "GradientTransformation", "clip"])
def test_what_is_no_optimizer(name):
    with pytest.raises(
        InputError, match=f"trainer.optimizer: optax has no optimizer '{name}'; it takes adam"
    ):
        make(optimizer=name)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"std": 0}, r"trainer\.std: got 0; it takes a positive number"),
        ({"epochs": 0}, r"trainer\.epochs: got 0; it takes 1 or more"),
        ({"batch_size": 0}, r"trainer\.batch_size: got 0"),
        ({"patience": -1}, r"trainer\.patience: got -1; it takes 0 or more"),
        ({"momentum": 1.0}, r"trainer\.momentum: got 1.0"),
        (
            {"optimizer": "adagrad", "momentum": 0.5},
            r"trainer\.momentum: got 0.5; optimizer adagrad has none",
        ),
        ({"optimizer": "rmsprop", "nesterov": False, "chance": 1.0}, r"trainer\.chance: got 1.0"),
        ({"optimizer": "adagrad", "nesterov": True}, r"trainer\.nesterov: got true"),
        ({"decay_rate": 0.0}, r"trainer\.decay_rate"),
    ],
)
def test_bad_recipes(recipe, message):
    with pytest.raises(InputError, match=message):
        make(**recipe)


def test_recipes_that_a_task_has_no_use_for():
    with pytest.raises(InputError, match=r"trainer\.restarts: not for task regression; set it to 0"):
        training.make(NETWORK, DATA._replace(task=REGRESSION), restarts=1)


def test_a_recipe_sets_options_together():
    """Any of them can still be given; `plain` is the defaults."""
    strong, given = make(recipe="strong"), make(recipe="strong", learning_rate=0.5, epochs=2)
    assert strong.rates["learning_rate"] == np.float32(0.01) and strong.rates["rotate"] == 14
    assert given.rates["learning_rate"] == 0.5 and given.rates["rotate"] == 14 and given.passes == 2
    assert make(recipe="plain").rates == make().rates
    # Strengths are knobs: children that differ in them share a program.
    assert {"learning_rate", "weight_decay", *STRENGTHS} == set(strong.rates)
    assert set(make().rates) == {"learning_rate", "weight_decay"}
    with pytest.raises(InputError, match="recipe: unknown name 'weak'"):
        make(recipe="weak")


def test_augmentation_and_precision_change_the_training():
    plain = fit(make(epochs=1, learning_rate=0.05)).params
    assert differs(fit(make(epochs=1, learning_rate=0.05, crop=1, flip=True)).params, plain)
    half = fit(make(epochs=1, learning_rate=0.05, precision="bfloat16")).params
    assert {x.dtype for x in jax.tree.leaves(half)} == {jnp.dtype("float32")}
    assert differs(half, plain)
    assert_close(half, plain, rtol=0.3, atol=0.03)


@pytest.mark.parametrize("lowering", ["gemm", "xla"])
def test_flops_by_hand(lowering):
    """2 · H · W · k² · C · F of a convolution, 2 · features · outputs of a dense layer, for one image."""
    space = blocks(num_blocks=2, filters=(4, 6), kernel=(3, 5), dropout=(0.1,))
    network = networks.blocks(space, (9, 8, 2), 3, lowering=lowering)
    structure, given = network.plan([0, 1, 0, 1, 0, 0])  # 4 filters of 5 × 5, 6 filters of 3 × 3
    by_hand = 2 * (9 * 8 * 25 * 2 * 4 + 4 * 4 * 9 * 4 * 6 + 2 * 2 * 6 * 3)
    assert training.count_flops(network, structure, given, (9, 8, 2)) == by_hand


def test_flops_of_loops_and_nested_programs():
    class Plain:
        init = staticmethod(lambda key, structure, knobs: jnp.zeros((5, 5)))

        @staticmethod
        def apply(params, structure, knobs, x, key):
            x = x.reshape(1, -1)
            x = jax.lax.scan(lambda x, _: (x @ params, None), x, length=3)[0]
            return jax.jit(lambda x: x @ params)(x)

    assert training.count_flops(Plain, (), {}, (5, 1, 1)) == 2 * 4 * 25  # type: ignore[arg-type]
    kernel = jnp.zeros((3, 3, 2, 4))

    class Conv:
        init = staticmethod(lambda key, structure, knobs: kernel)
        apply = staticmethod(lambda p, *given: conv(given[2], p, jnp.zeros(4), Spec("xla")))

    assert training.count_flops(Conv, (), {}, (5, 7, 2)) == 2 * 5 * 7 * 9 * 2 * 4  # type: ignore[arg-type]

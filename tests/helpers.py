"""What several test modules need: small spaces and data sets, and comparisons to the bit."""

import functools
import inspect
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import masks, rewards
from jaxnas.errors import InputError
from jaxnas.spaces import blocks, cnn_mdp, metaqnn, nasbench201, nasnet
from jaxnas.training.task import MULTICLASS
from jaxnas.types import MOCK_FAILURE, OK, Dataset, Evaluator, Space, Split


def known_options(**options) -> dict:
    """Those of XLA's options that this version of it has."""

    def is_known(name) -> bool:
        try:
            jax.jit(lambda: 0.0, compiler_options={name: options[name]})()
        except jax.errors.JaxRuntimeError:
            return False
        return True

    return {name: options[name] for name in options if is_known(name)}


# XLA's options for a program that is compiled in a tenth of the time, and then runs slower: for what no
# optimization of machine code can break. Promises about bits take jax.jit itself.
UNOPTIMIZED = known_options(
    xla_backend_optimization_level=0,
    xla_cpu_use_fusion_emitters=False,  # newer versions of XLA have no other way, and no such option
    xla_cpu_parallel_codegen_split_count=1,
)
# The same for a process, in its XLA_FLAGS.
UNOPTIMIZED_FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in UNOPTIMIZED.items())
quick_jit = functools.partial(jax.jit, compiler_options=UNOPTIMIZED)

FORBID = ({"filters": 128}, {"filters": 64, "kernel": 5})


class ChainWalk(NamedTuple):
    depth: jax.Array  # int32 []
    last: jax.Array  # int32 []
    stopped: jax.Array  # bool []


def chain(length: int = 4) -> Space:
    """A space of variable depth: layers 1, 2 or 3, never 3 twice in a row, until 0 stops; never empty."""
    layers = ".abc"

    def step(walk: ChainWalk, choice: jax.Array) -> ChainWalk:
        return ChainWalk(walk.depth + 1, choice.astype(jnp.int32), walk.stopped | (choice == 0))

    def mask(walk: ChainWalk) -> jax.Array:
        choice = jnp.arange(4)
        going = jnp.where(walk.depth == 0, choice > 0, True) & ~((choice == 3) & (walk.last == 3))
        return jnp.where(done(walk), choice == 0, going)

    def done(walk: ChainWalk) -> jax.Array:
        return walk.stopped | (walk.depth >= length)

    def describe(arch) -> str:
        return "".join(layers[int(c)] for c in arch).rstrip(".")

    def parse(text: str) -> np.ndarray:
        if not text or len(text) > length or set(text) - set("abc"):
            raise InputError(f"architecture {text!r}: it takes one to {length} letters of a, b and c")
        return np.array([layers.index(letter) for letter in text.ljust(length, ".")], np.int32)

    def legal(arch: tuple[int, ...]) -> bool:
        depth = next((t for t, c in enumerate(arch) if c == 0), length)
        no_pair = all(pair != (3, 3) for pair in itertools.pairwise(arch))
        return depth > 0 and not any(arch[depth:]) and no_pair

    return Space(
        name="chain",
        num_steps=length,
        num_choices=4,
        decisions=tuple(f"layer_{t + 1}" for t in range(length)),
        start=ChainWalk(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), jnp.zeros((), bool)),
        step=step,
        mask=mask,
        done=done,
        num_states=4 * (length + 1),
        state=lambda walk: 4 * jnp.minimum(walk.depth, length) + walk.last,
        observe=lambda walk: jnp.concatenate(
            [jax.nn.one_hot(walk.depth, length + 1), jax.nn.one_hot(walk.last, 4)]
        ),
        decode=lambda arch: {f"layer_{t + 1}": layers[int(c)] for t, c in enumerate(arch)},
        describe=describe,
        parse=parse,
        size=sum(map(legal, itertools.product(range(4), repeat=length))),
    )


def chain_space(length: int = 4) -> Space:
    """A walk on the line 0 … length from 0: choice 1 goes right, 0 left, which is illegal at 0.

    For `chain_reward` the optimal values are known: always right is worth 1, and once that is out of reach
    each further left is worth 0.1.
    """
    space = chain(length)

    def parse(text: str) -> np.ndarray:
        return np.array(["lr".index(letter) for letter in text], np.int32)

    def mask(walk: ChainWalk) -> jax.Array:  # `last` is the place
        inside = walk.depth < length
        return jnp.stack([jnp.where(inside, walk.last > 0, True), inside])

    return space._replace(
        name="chain_space",
        num_choices=2,
        step=lambda walk, choice: ChainWalk(
            walk.depth + 1, walk.last + 2 * choice.astype(jnp.int32) - 1, walk.stopped
        ),
        mask=mask,
        done=lambda walk: walk.depth >= length,
        describe=lambda arch: "".join("lr"[int(c)] for c in arch),
        parse=parse,
        num_states=(length + 1) ** 2,
        state=lambda walk: (length + 1) * jnp.minimum(walk.depth, length) + jnp.clip(walk.last, 0, length),
        observe=lambda walk: jnp.concatenate(
            [jax.nn.one_hot(walk.depth, length + 1), jax.nn.one_hot(walk.last, length + 1)]
        ),
    )


def chain_reward(arch: jax.Array) -> jax.Array:  # int [..., T] → [..., T]
    """0.1 for every step to the left; 1 at the end if there was none."""
    straight = jnp.all(arch == 1, axis=-1).astype(jnp.float32)
    return 0.1 * (arch == 0).astype(jnp.float32).at[..., -1].add(10 * straight)


def every_prefix(space: Space, reward=chain_reward, failure_rate: float = 0.0) -> Evaluator:
    """An evaluator of `gain`, the reward [T] of each decision, and of `depth`, how many there were."""

    def evaluate(keys, state, arch):
        live = jax.vmap(lambda a: masks.walk(space, a).live)(jnp.asarray(arch))
        fails = jax.vmap(lambda key: jax.random.uniform(key) < failure_rate)(keys)
        measures = {
            "gain": jnp.where(fails[:, None], jnp.nan, reward(jnp.asarray(arch))),
            "depth": jnp.sum(live, axis=-1).astype(jnp.float32),
            "status": jnp.where(fails, MOCK_FAILURE, OK),
        }
        return state, measures

    return Evaluator(lambda key: (), evaluate, measures=("gain", "depth"), jittable=True, prefix=("gain",))


def gain(measures):
    """The reward of `every_prefix`."""
    return measures["gain"]


def play(controller, reward, rounds: int, seed: int = 0):
    """The state after so many rounds under a reward of the architectures, in one compiled loop."""

    def step(state, key):
        key_ask, key_tell = jax.random.split(key)
        proposal = controller.ask(key_ask, state)
        state, metrics = controller.tell(key_tell, state, proposal, rewards.outcome(reward(proposal.arch)))
        return state, (proposal.arch, metrics)

    key_init, key = jax.random.split(jax.random.key(seed))
    scan = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys))
    return scan(controller.init(key_init), jax.random.split(key, rounds))


SPACES = {
    "one_block": lambda: blocks(forbid=FORBID),
    "two_blocks": lambda: blocks(num_blocks=2, forbid=(*FORBID, {"filters_1": 16, "kernel_2": 5})),
    "chain": chain,
    "metaqnn": lambda: metaqnn(image_size=12, depth=5, filters=(4, 8), dense=(8, 4)),
    "cnn_mdp": lambda: cnn_mdp(image_size=12, depth=4, filters=(4, 8), dense=(8, 4)),
    "nasbench201": nasbench201,
    "nasnet": lambda: nasnet(blocks_per_cell=2, operations=("identity", "max3", "sep3")),
}


def random_archs(space: Space, n: int, seed: int = 0) -> np.ndarray:  # → int32 [n, T]
    """Architectures whose every decision is uniform over the legal choices."""
    keys = jax.random.split(jax.random.key(seed), n)
    return np.asarray(jax.jit(jax.vmap(lambda key: masks.sample(key, space)))(keys))


def images(key: int, n: int, shape: tuple[int, int, int], classes: int) -> Split:
    """Noisy images whose mean says the class: easy enough to learn in a few steps."""
    rng = np.random.default_rng(key)
    labels = (np.arange(n) % classes).astype(np.int32)
    level = 40 + 170 * labels / max(classes - 1, 1)
    pixels = level[:, None, None, None] + rng.normal(0, 25, (n, *shape))
    return Split(np.clip(pixels, 0, 255).astype(np.uint8), labels)


def dataset(
    *, n: int = 60, n_validation: int = 20, shape: tuple[int, int, int] = (8, 8, 1), classes: int = 3
) -> Dataset:
    """A multiclass data set without a test split."""
    train, validation = images(0, n, shape, classes), images(1, n_validation, shape, classes)
    names = tuple(f"class {c}" for c in range(classes))
    return Dataset("blobs", MULTICLASS, train, validation, None, names, None)


def is_key(x) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def to_numpy(tree):
    """Leaves as numpy arrays, typed keys as their data."""
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x), tree)


def assert_identical(a, b) -> None:
    """Equal structure, dtypes, shapes and bits; NaN equals NaN."""
    a, b = to_numpy(a), to_numpy(b)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape), jax.tree_util.keystr(path)
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


def assert_close(a, b, **tolerance) -> None:
    """Equal to rounding, leaf by leaf."""
    a, b = to_numpy(a), to_numpy(b)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, err_msg=jax.tree_util.keystr(path), **tolerance)


def differs(a, b) -> bool:
    leaves = zip(jax.tree.leaves(to_numpy(a)), jax.tree.leaves(to_numpy(b)), strict=True)
    return any(not np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in leaves)


def takes(factory, **options) -> dict:
    """Those of `options` that the factory has."""
    return {name: value for name, value in options.items() if name in inspect.signature(factory).parameters}

"""The nouns of jaxnas: a space, a network, a controller, an evaluator, and what passes between them.

Each is a NamedTuple of pure functions that a factory closes over its settings. Shapes: B proposals a
round, T decisions an architecture at most, A choices the widest decision has.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

PyTree = Any


class Space(NamedTuple):
    """A deterministic decision process; an architecture is one walk through it.

    The padding choice is 0: after the end of a walk it is the only legal choice.
    """

    name: str
    num_steps: int  # T
    num_choices: int  # A
    decisions: tuple[str, ...]  # [T] the name of every decision
    start: PyTree  # the walk before any decision (arrays)
    step: Callable[[PyTree, jax.Array], PyTree]  # (walk, choice []) → walk
    mask: Callable[[PyTree], jax.Array]  # walk → bool [A]; True is legal
    done: Callable[[PyTree], jax.Array]  # walk → bool []
    num_states: int  # S, for tabular controllers
    state: Callable[[PyTree], jax.Array]  # walk → int32 [] in [0, S)
    observe: Callable[[PyTree], jax.Array]  # walk → float32 [F], for networks over states
    decode: Callable[[Any], dict[str, Any]]  # host: arch [T] → {decision: chosen value}
    describe: Callable[[Any], str]  # host: arch [T] → the field's notation
    parse: Callable[[str], np.ndarray]  # host: the inverse; an InputError points at the offending token
    size: int  # how many architectures are legal; at most, where they are too many to try a rule on
    settings: Any = None  # what the space's own network needs to know of it; hashable


class Network(NamedTuple):
    """An architecture as a trainable child network.

    `Structure` is hashable: it fixes the shapes of the compiled program. `Knobs` are arrays: they do not; the
    trainer sets one named `progress`, float32 [], to the share of the training's steps that are done.
    """

    plan: Callable  # host: arch [T] → (Structure, Knobs); an InputError where no network is possible
    init: Callable  # (key, Structure, Knobs) → params
    apply: Callable  # (params, Structure, Knobs, inputs float32 [N, ...], key or None) → [N, outputs]
    # Padding, where the network can: structures that differ in width then share a program.
    widen: Callable | None = None  # host: Structure → ever wider Structures
    pad: Callable | None = None  # host: (Structure, Knobs) → Knobs of that child in a wider Structure
    crop: Callable | None = None  # host: (params of the wider one, Structure) → params
    # Statistics that training collects and nothing optimizes: params["statistics"].
    train: Callable | None = None  # as apply, with a key → (outputs, the new statistics)
    trainer_options: Callable | None = (
        None  # host: arch → {option of the trainer: what arch decides it to be}
    )


class Proposal(NamedTuple):
    """What a controller asks for; `memo` is what it wants to remember when the reward comes in."""

    arch: jax.Array  # int32 [B, T]
    memo: PyTree  # leaves [B, ...]


class Outcome(NamedTuple):
    """What became of a proposal: all that a controller is told.

    `reward` alone suffices to learn from. `status` tells a trial that failed from one that the constraints
    rejected, and `measures` are those that a repetition of the search reproduces: no seconds, no bytes.
    """

    reward: jax.Array  # float32 [B, T] per decision; a failed trial's row is NaN, decisions not live are 0
    measures: dict[str, jax.Array]  # {name: float32 [B]}; NaN where a trial has none
    status: jax.Array  # int32 [B], an index into STATUS


class Controller(NamedTuple):
    """Who proposes architectures. `ask` reads the state, `tell` writes it."""

    batch_size: int  # B
    init: Callable[[jax.Array], PyTree]  # key → state
    ask: Callable[[jax.Array, PyTree], Proposal]  # (key, state) → Proposal
    # (key, state, Proposal, Outcome) → (state, metrics {name: []})
    tell: Callable[[jax.Array, PyTree, Proposal, Outcome], tuple[PyTree, dict[str, jax.Array]]]
    policy: Callable[[PyTree], tuple[jax.Array, jax.Array]]  # state → greedy arch [T], probabilities [T, A]


class Evaluator(NamedTuple):
    """Who measures architectures.

    Measures are {name: float32 [B]} and carry their unit in the name (`accuracy` in 0–1, `params`,
    `train_seconds`, …), with `status` int32 [B], an index into `STATUS`. A failed child is NaN.
    """

    init: Callable  # key → state; the key is the root of everything random in the evaluation
    evaluate: Callable  # (keys [B], state, arch [B, T]) → (state, measures)
    weights: Callable | None  # (state, lane) → parameters of that child of the last round
    measures: tuple[str, ...]  # the names that `evaluate` reports beside `status`
    jittable: bool  # False: the search runs a Python loop around the jitted ask and tell
    stats: Callable[[], dict[str, float]] | None = None  # host: counters so far: programs, compile_seconds, …
    costs: tuple[str, ...] = ()  # further measures, which a repetition need not reproduce: seconds, bytes
    outputs: Callable | None = None  # (state, lane) → that child's outputs [N, O] on the validation split
    prefix: tuple[str, ...] = ()  # those of `measures` that are given per decision, float32 [B, T]


class Split(NamedTuple):
    """Inputs and their labels."""

    inputs: np.ndarray  # [N, ...]; images are uint8 [N, H, W, C]
    labels: np.ndarray  # int32 [N] (multiclass, binary); float32 [N, outputs] (multi_label, regression)


class Dataset(NamedTuple):
    """Inputs with fixed splits. A search sees `train` and `validation` alone."""

    name: str
    task: str  # one of TASKS
    train: Split
    validation: Split
    test: Split | None
    classes: tuple[str, ...]  # names of the classes, labels or targets
    class_weights: np.ndarray | None  # float32 [classes], weights of the training loss
    kind: str = "image"  # what one input is; some parts of jaxnas take images alone

    @property
    def num_outputs(self) -> int:
        """Width of the network's head: one logit suffices for a binary task."""
        return 1 if self.task == "binary" else len(self.classes)


TASKS = ("multiclass", "binary", "multi_label", "regression")

# What can become of a trial: the word for trials.csv, and the reason in full.
STATUS: tuple[tuple[str, str], ...] = (
    ("ok", ""),
    ("failed", "the loss became NaN or infinite"),
    ("failed", "it alone needs more memory than there is"),
    ("failed", "the table has no row for this architecture"),
    ("failed", "failed at random, as the mock was asked to"),
    ("failed", "no network of this shape exists for these images"),
    ("rejected", "larger than the constraints allow, so it was not trained"),
)
OK, DIVERGED, OUT_OF_MEMORY, NOT_IN_TABLE, MOCK_FAILURE, NO_LEGAL_SHAPE, REJECTED = range(len(STATUS))

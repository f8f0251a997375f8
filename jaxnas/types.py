"""The nouns of jaxnas: a space, a network, a controller, an evaluator, and what passes between them.

Each is a NamedTuple of pure functions that a factory closes over its settings. Shapes: B proposals a
round, T decisions an architecture at most, A choices the widest decision has.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

PyTree = Any


def _nothing() -> None:
    pass


def no_layers(arch: Any) -> tuple[Any, ...]:
    """`Space.layers` of a space that does not say what its layers are: nothing."""
    del arch
    return ()


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
    layers: Callable[[Any], tuple[Any, ...]] = no_layers  # host: arch [T] → its parts, see spaces/layers.py
    write: Callable[[Any], str] | None = None  # host: a part → its words in `describe`; None: layers.token


class Network(NamedTuple):
    """An architecture as a trainable child network.

    `Structure` is hashable: it fixes the shapes of the compiled program. `Knobs` are arrays: they do not; the
    trainer sets one named `progress`, float32 [], to the share of the training's steps that are done.
    """

    # host: arch [T] → (Structure, Knobs); an InputError where no network is possible
    plan: Callable[[Any], tuple[Any, PyTree]]
    init: Callable[[jax.Array, Any, PyTree], PyTree]  # (key, Structure, Knobs) → params
    # (params, Structure, Knobs, inputs float32 [N, ...], key or None) → [N, outputs]
    apply: Callable[[PyTree, Any, PyTree, jax.Array, jax.Array | None], jax.Array]
    # Padding, where the network can: structures that differ in width then share a program.
    widen: Callable | None = None  # host: Structure → ever wider Structures
    pad: Callable | None = None  # host: (Structure, Knobs) → Knobs of that child in a wider Structure
    crop: Callable | None = None  # host: (params of the wider one, Structure) → params
    # Statistics that training collects and nothing optimizes: params["statistics"].
    train: Callable | None = None  # as apply, with a key → (outputs, the new statistics)
    trainer_options: Callable | None = None  # host: arch → {option of the trainer that arch decides: value}
    # host: Structure → {"params": …, "flops": …} where that is known without tracing the network, exactly
    size: Callable[[Any], dict[str, float]] | None = None


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

    `child` hands over a child that succeeded: its parameters, and its outputs on the validation split or
    None. The key and the architecture say which child is meant, so it can be asked for at any time; the state
    is one after the round that measured it. An evaluator without networks has no `child`.
    """

    init: Callable[[jax.Array], PyTree]  # key → state; the key is the root of everything random
    # (keys [B], state, arch [B, T]) → (state, measures)
    evaluate: Callable[[jax.Array, PyTree, Any], tuple[PyTree, dict[str, Any]]]
    measures: tuple[str, ...]  # the names that `evaluate` reports beside `status`
    jittable: bool  # False: the search runs a Python loop around the jitted ask and tell
    # host: (key [], state, arch [T]) → (parameters, outputs [N, O]); None for a child that fails
    child: Callable[[jax.Array, PyTree, Any], tuple[PyTree, np.ndarray | None] | None] | None = None
    prefix: tuple[str, ...] = ()  # those of `measures` that are given per decision, float32 [B, T]
    costs: tuple[str, ...] = ()  # further measures, which a repetition need not reproduce: seconds, bytes
    stats: Callable[[], dict[str, float]] = dict  # host: counters by any name, which only ever grow
    close: Callable[[], None] = _nothing  # host: ends what the evaluator runs beside the search: processes


class Task(NamedTuple):
    """What is asked of a child network, of whose outputs [N, O] everything here is a function.

    Labels are int32 [N], the class of each input, where `predict` is there, else float32 [N, O].
    """

    name: str  # what configurations and files call it
    names: tuple[str, ...]  # of the measures; by the first one networks are compared
    num_outputs: Callable[[int], int]  # number of classes, labels or targets → O, the width of the head
    loss: Callable[..., jax.Array]  # (outputs, labels, weights float32 [classes] or None[, smoothing]) → []
    score: Callable[[jax.Array, jax.Array], jax.Array]  # (outputs, labels) → float32 []: compares two epochs
    measures: Callable[[np.ndarray, np.ndarray], dict[str, float]]  # host: (outputs, labels) → {name: value}
    probabilities: Callable[[np.ndarray], np.ndarray]  # host: outputs → float64 [N, classes]
    ensemble: Callable[[np.ndarray], np.ndarray]  # host: [networks, N, O] → outputs of their mean prediction
    agreement: Callable[[np.ndarray, np.ndarray], np.ndarray]  # host: two outputs → bool [N], one prediction
    evidence: Callable[[jax.Array, jax.Array], jax.Array]  # (outputs, targets int32 [N]) → [N]: for each
    predict: Callable[[np.ndarray], np.ndarray] | None = None  # host: outputs → int [N], one class an input
    # host: labels → the first measure of the best constant prediction, where that says something
    constant: Callable[[np.ndarray], float] | None = None
    num_classes: tuple[int, float] = (1, math.inf)  # fewest and most classes, labels or targets
    more_is_better: bool = (
        True  # `score` is the first measure; False: it is an error, and `score` its negative
    )


class Split(NamedTuple):
    """Inputs and their labels."""

    inputs: np.ndarray  # [N, ...]; images are uint8 [N, H, W, C]
    labels: np.ndarray  # as the task has them


class Dataset(NamedTuple):
    """Inputs with fixed splits. A search sees `train` and `validation` alone.

    What is stored need not be what a network sees. Both functions are traced into the training program; for
    images without them the trainer's options make them.
    """

    name: str
    task: Task
    train: Split
    validation: Split
    test: Split | None
    classes: tuple[str, ...]  # names of the classes, labels or targets
    class_weights: np.ndarray | None  # float32 [classes], weights of the training loss
    kind: str = "image"  # what one input is: image, sequence, …; some parts of jaxnas take images alone
    prepare: Callable[[jax.Array], jax.Array] | None = None  # stored [N, ...] → what a network sees
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None  # (key, stored) → stored, in training

    @property
    def num_outputs(self) -> int:
        """Width of the network's head: one logit suffices for a binary task."""
        return self.task.num_outputs(len(self.classes))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input as the network sees it, (H, W, C) of an image."""
        stored = jax.ShapeDtypeStruct((1, *self.train.inputs.shape[1:]), self.train.inputs.dtype)
        return (stored if self.prepare is None else jax.eval_shape(self.prepare, stored)).shape[1:]


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

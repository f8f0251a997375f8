"""What every controller promises."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import masks, rewards
from jaxnas.errors import InputError
from jaxnas.testing.promises import (
    build,
    difference,
    floats,
    from_numpy,
    not_finite,
    programs,
    promise,
    quick_jit,
    shapes,
    to_numpy,
)
from jaxnas.types import DIVERGED, OK, REJECTED, Controller, Outcome, Proposal, PyTree, Space

NAN = np.float32(np.nan)


class _Subject(NamedTuple):
    """A controller with its functions compiled once, at its start and after a few rounds."""

    space: Space
    batch_size: int
    ask: Callable  # (key, state) → Proposal
    tell: Callable  # (key, state, Proposal, Outcome) → (state, metrics)
    policy: Callable  # state → (arch [T], probabilities [T, A])
    outcome: Callable  # (arch [B, T], status [B], reward of a rejected trial) → Outcome
    walk: Callable  # arch [B, T] → masks.Walk of each
    start: PyTree
    state: PyTree


def check_controller(
    controller: Controller | Callable[[Space], Controller],
    space: Space,
    *,
    measures: Sequence[str] = ("accuracy", "params"),
    keys_matter: bool = True,
    rounds: int = 3,
    seed: int = 0,
) -> None:
    """Tests a controller on a space: its proposals, what it makes of failures, its policy, its state.

    Args:
      controller: a Controller, or its factory `space → Controller`.
      space: small, and better of variable depth: what the proposals are legal in.
      measures: the names that an outcome's measures have here, for a controller that reads them.
      keys_matter: False for a controller whose proposals follow from its state alone.
      rounds: rounds before the state is looked at.
      seed: of the keys.

    Raises:
      AssertionError: says in one line which promise is broken.
    """
    controller = build(controller, Controller, space)
    subject = _play(controller, space, tuple(measures), rounds, seed)
    _check_proposals(subject, keys_matter)
    _check_policy(subject)
    _check_a_round_without_rewards(subject)
    _check_failures(subject)
    _check_rejections(subject)
    _check_resume(subject)
    _check_many_seeds(controller, subject, keys_matter)


def _outcome(space: Space, measures: tuple[str, ...]) -> Callable:
    @quick_jit
    def outcome(arch: jax.Array, status: jax.Array, rejected: jax.Array) -> Outcome:  # [B, T], [B], []
        score = jnp.mean(arch.astype(jnp.float32), axis=-1) / space.num_choices  # more for larger choices
        live = jax.vmap(lambda a: masks.walk(space, a).live)(arch)
        score = jnp.where(status == OK, score, jnp.where(status == REJECTED, rejected, jnp.nan))
        reward = jnp.where(jnp.isnan(score)[:, None], jnp.nan, rewards.terminal(score, live))
        size = jnp.where(status == DIVERGED, jnp.nan, 1 + jnp.sum(arch, axis=-1).astype(jnp.float32))
        values = {name: jnp.where(status == OK, score, jnp.nan) for name in measures}
        return Outcome(reward, {n: size if n == "params" else x for n, x in values.items()}, status)

    return outcome


def _play(
    controller: Controller, space: Space, measures: tuple[str, ...], rounds: int, seed: int
) -> _Subject:
    B = controller.batch_size
    promise(isinstance(B, int) and B > 0, f"batch_size: it is {B!r}; it takes an integer above 0")
    outcome = _outcome(space, measures)
    start = controller.init(jax.random.key(seed))
    key, ok = jax.random.key(seed + 1), jnp.full(B, OK, jnp.int32)
    for leaf in jax.tree.leaves(start):
        promise(hasattr(leaf, "dtype"), f"init: the state's leaves are arrays, and {leaf!r} is none")
    proposal = shapes("ask", controller.ask, key, start)
    arch = proposal.arch
    promise(
        (arch.shape, arch.dtype) == ((B, space.num_steps), jnp.int32),
        f"ask: arch is {arch.dtype} {list(arch.shape)}, and should be int32 {[B, space.num_steps]}",
    )
    promise(
        all(leaf.shape[:1] == (B,) for leaf in jax.tree.leaves(proposal.memo)),
        f"ask: every array of the memo begins with the batch, [{B}, …]",
    )
    after = shapes(
        "tell", controller.tell, key, start, proposal, jax.eval_shape(outcome, proposal.arch, ok, NAN)
    )[0]
    is_same = jax.tree.structure(after) == jax.tree.structure(start)
    promise(
        is_same, f"tell: the state changed from {jax.tree.structure(start)} to {jax.tree.structure(after)}"
    )
    for (path, x), y in zip(jax.tree.leaves_with_path(start), jax.tree.leaves(after), strict=True):
        promise(
            (x.shape, x.dtype) == (y.shape, y.dtype),
            f"tell: state{jax.tree_util.keystr(path)} was {x.dtype} {list(x.shape)} and became {y.dtype} "
            f"{list(y.shape)}; it never changes, for a search is one compiled program",
        )
    ask, tell = quick_jit(lambda k, s: controller.ask(k, s)), quick_jit(lambda *args: controller.tell(*args))
    walk = quick_jit(jax.vmap(lambda arch: masks.walk(space, arch)))
    subject = _Subject(space, B, ask, tell, quick_jit(controller.policy), outcome, walk, start, start)
    for r in range(rounds):
        subject = subject._replace(state=_round(subject, jax.random.fold_in(key, r), subject.state)[0])
    promise(programs(tell) == 1, f"tell: {programs(tell)} programs were compiled for {rounds} rounds")
    return subject


def _round(subject: _Subject, key: jax.Array, state: PyTree) -> tuple[PyTree, Proposal]:
    key_ask, key_tell = jax.random.split(key)
    proposal = subject.ask(key_ask, state)
    outcome = subject.outcome(proposal.arch, jnp.full(subject.batch_size, OK, jnp.int32), NAN)
    return subject.tell(key_tell, state, proposal, outcome)[0], proposal


def _check_proposals(subject: _Subject, keys_matter: bool) -> None:
    before = to_numpy(subject.state)
    proposals = [subject.ask(jax.random.key(seed), subject.state) for seed in range(20)]
    for proposal in proposals:
        _check_legal(subject, proposal.arch)
        name = not_finite(proposal.memo)
        promise(not name, f"ask: memo{name} is not finite")
    again = subject.ask(jax.random.key(0), subject.state)
    promise(not difference(proposals[0], again), "ask: the same key and state give other proposals")
    if keys_matter:
        differs = any(difference(proposals[0].arch, p.arch) for p in proposals[1:4])
        promise(differs, "ask: four different keys give the same proposals")
    changed = difference(before, subject.state)
    promise(not changed, f"ask: it writes the state, which only tell may: state{changed}")


def _check_legal(subject: _Subject, arch: Any) -> None:  # int32 [B, T]
    legal = np.take_along_axis(np.asarray(subject.walk(arch).legal), np.asarray(arch)[..., None], axis=-1)
    if not legal.all():
        try:
            masks.check(subject.space, arch)
        except InputError as error:
            raise AssertionError(f"ask: an illegal proposal: {error}") from None


def _check_policy(subject: _Subject) -> None:
    T, A = subject.space.num_steps, subject.space.num_choices
    for state in (subject.start, subject.state):
        arch, probabilities = map(np.asarray, subject.policy(state))
        promise(arch.shape == (T,), f"policy: arch is {list(arch.shape)}, and should be {[T]}")
        promise(
            probabilities.shape == (T, A),
            f"policy: the probabilities are {list(probabilities.shape)}, and should be {[T, A]}",
        )
        rows = jnp.broadcast_to(arch, (subject.batch_size, T))
        walk = jax.tree.map(lambda x: np.asarray(x)[0], subject.walk(rows))
        promise(walk.legal[np.arange(T), arch].all(), f"policy: {arch.tolist()} is illegal")
        promise((probabilities >= 0).all(), "policy: a probability is negative")
        promise(
            (probabilities[~walk.legal] == 0).all(), "policy: an illegal choice has a probability above 0"
        )
        promise(np.allclose(probabilities.sum(-1), 1, rtol=1e-6), "policy: probabilities do not sum to 1")
        promise((probabilities.argmax(-1) == arch).all(), "policy: arch does not take the likeliest choices")
        promise(
            (probabilities[~walk.live, 0] == 1).all(), "policy: after the end, padding has all probability"
        )


def _check_a_round_without_rewards(subject: _Subject) -> None:
    failed = jnp.full(subject.batch_size, DIVERGED, jnp.int32)
    for state in (subject.start, subject.state):
        proposal = subject.ask(jax.random.key(3), state)
        outcome = subject.outcome(proposal.arch, failed, NAN)
        after, metrics = subject.tell(jax.random.key(4), state, proposal, outcome)
        learned = [not np.array_equal(x, y) for x, y in zip(floats(state), floats(after), strict=True)]
        promise(not any(learned), "tell: it learns from a round in which every trial failed")
        changed = difference(subject.policy(state), subject.policy(after))
        promise(not changed, "tell: a round in which every trial failed changes the policy")
        _check_numbers(subject, after, metrics, "every trial of a round fails")


def _check_failures(subject: _Subject) -> None:
    """Nothing of a failed trial reaches the state: not its architecture, its reward or its measures."""
    B = subject.batch_size
    proposal = subject.ask(jax.random.key(5), subject.state)
    failed = jnp.arange(B) % 2 == 1
    outcome = subject.outcome(proposal.arch, jnp.where(failed, DIVERGED, OK).astype(jnp.int32), NAN)
    others = subject.ask(jax.random.key(6), subject.state).arch
    one_nan = subject.outcome(proposal.arch, jnp.full(B, OK, jnp.int32), NAN).reward
    one_nan = one_nan.at[:, -1].set(jnp.where(failed, jnp.nan, one_nan[:, -1]))

    def tell(arch: jax.Array, outcome: Outcome) -> PyTree:
        after, metrics = subject.tell(jax.random.key(7), subject.state, proposal._replace(arch=arch), outcome)
        _check_numbers(subject, after, metrics, "half of a round fails")
        return after

    state = tell(proposal.arch, outcome)
    illegal = jnp.full_like(others, subject.space.num_choices - 1)
    for arch, altered, what in (
        (jnp.where(failed[:, None], others, proposal.arch), outcome, "another architecture"),
        (jnp.where(failed[:, None], illegal, proposal.arch), outcome, "an illegal architecture"),
        (proposal.arch, outcome._replace(reward=one_nan), "a reward that is NaN at one decision alone"),
    ):
        changed = difference(state, tell(arch, altered))
        promise(not changed, f"tell: a failed trial with {what} changes state{changed}")


def _check_rejections(subject: _Subject) -> None:
    """A rejected trial has a size but no accuracy, and no reward or the one that is configured."""
    proposal = subject.ask(jax.random.key(11), subject.state)
    for status in (np.where(np.arange(subject.batch_size) % 2, REJECTED, OK), REJECTED):
        status = jnp.broadcast_to(jnp.asarray(status, jnp.int32), (subject.batch_size,))
        for reward in (NAN, np.float32(-1)):
            outcome = subject.outcome(proposal.arch, status, reward)
            after, metrics = subject.tell(jax.random.key(12), subject.state, proposal, outcome)
            _check_numbers(subject, after, metrics, f"trials are rejected with the reward {reward:g}")


def _check_numbers(subject: _Subject, state: PyTree, metrics: PyTree, when: str) -> None:
    """No NaN; an infinity in the state only where it began with it: a best that is yet to come."""
    for (path, x), first in zip(
        jax.tree.leaves_with_path(to_numpy(state)), jax.tree.leaves(to_numpy(subject.start)), strict=True
    ):
        bad = x.dtype.kind == "f" and not (np.isfinite(x) | (x == first)).all()
        promise(not bad, f"tell: state{jax.tree_util.keystr(path)} is not finite once {when}")
    for name, x in metrics.items():
        number = np.asarray(x)
        promise(
            number.shape == (), f"tell: the metric {name} is {list(number.shape)}, and should be one number"
        )
        promise(not np.isnan(number) and number != np.inf, f"tell: the metric {name} is {number} once {when}")
    probabilities = np.asarray(subject.policy(state)[1])
    promise(np.isfinite(probabilities).all(), f"policy: a probability is not finite once {when}")


def _check_resume(subject: _Subject) -> None:
    here, there = subject.state, from_numpy(to_numpy(subject.state), subject.state)
    for seed in range(3):
        (here, asked), (there, asked_there) = (
            _round(subject, jax.random.key(seed), state) for state in (here, there)
        )
        changed = difference(asked, asked_there)
        promise(not changed, f"ask: a state that was stored as numpy arrays continues otherwise: {changed}")
    changed = difference(here, there)
    promise(not changed, f"tell: a state that was stored as numpy arrays continues otherwise: state{changed}")


def _check_many_seeds(controller: Controller, subject: _Subject, keys_matter: bool) -> None:
    B, T = subject.batch_size, subject.space.num_steps
    starts = [controller.init(jax.random.key(seed)) for seed in range(3)]
    states = stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    keys = jax.random.split(jax.random.key(8), 3)
    ask, tell = quick_jit(jax.vmap(controller.ask)), quick_jit(jax.vmap(controller.tell))
    ok = jnp.full(3 * B, OK, jnp.int32)
    first = archs = ask(keys, stacked).arch
    for _ in range(2):
        proposals = ask(keys, states)
        archs = np.asarray(proposals.arch)
        outcome = subject.outcome(proposals.arch.reshape(3 * B, T), ok, NAN)
        outcome = jax.tree.map(lambda x: x.reshape(3, B, *x.shape[1:]), outcome)
        states, _ = tell(keys, states, proposals, outcome)
    for arch in archs:
        _check_legal(subject, arch)
    promise(not keys_matter or difference(archs[0], archs[1]), "ask: under vmap, two seeds propose the same")
    alone = subject.ask(keys[2], starts[2]).arch
    promise(not difference(first[2], alone), "ask: under vmap, a seed proposes other than by itself")
    name = not_finite(states) if not not_finite(stacked) else ""
    promise(not name, f"tell: under vmap, state{name} is not finite")

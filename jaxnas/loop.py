"""The search loop: the only place where controller and evaluator meet.

    key ─► ask ─► arch [B,T] ─► evaluate ─► measures {name: [B]} ─► outcome ─► tell

The reward of a trial stands at its last live decision. Where the evaluator measures every prefix of an
architecture (`Evaluator.prefix`), each live decision has a reward of its own, and their sum is the score.

Round r draws its keys from fold_in(root, r), trial i from fold_in(evaluation root, i): a child's result
does not depend on what else is in its round. All decisions of a round are taken before any is measured.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import masks, rewards
from jaxnas.errors import InputError
from jaxnas.types import OK, REJECTED, Controller, Evaluator, Outcome, PyTree, Space

# Rounds that one call of the compiled loop records at most; the loop's length itself is dynamic, so that
# one program serves every number of rounds and how a search is cut into calls cannot change its bits.
CHUNK = 256


class SearchState(NamedTuple):
    """All that a search remembers; with the configuration it decides everything that follows."""

    root: jax.Array  # key []
    round: jax.Array  # int32 [] rounds completed
    controller: PyTree
    evaluator: PyTree
    best_reward: jax.Array  # float32 [], −inf before the first success
    best_arch: jax.Array  # int32 [T]
    best_trial: jax.Array  # int32 [], −1 before the first success


class Record(NamedTuple):
    """What happened in a round."""

    round: jax.Array  # int32 []
    arch: jax.Array  # int32 [B, T]
    measures: dict[str, jax.Array]  # {name: [B]}; given per decision: the one at the last live decision
    legal: jax.Array  # bool [B] False only by a mistake of the controller or of the space's rules
    reward: jax.Array  # float32 [B] the score: of rewards per decision their sum; NaN for a failed child
    best_reward: jax.Array  # float32 [] so far, −inf before the first success
    metrics: dict[str, jax.Array]  # {name: []} of the controller
    # {name: [B, T]} the measures of `Evaluator.prefix`, with `reward`, float32, NaN where a decision is not
    # live, and `live`, bool; nothing where the evaluator gives no measure per decision
    prefixes: dict[str, jax.Array]


class Verdict(NamedTuple):
    """What the measures of a round are worth."""

    outcome: Outcome  # what the controller is told
    rank: jax.Array  # float32 [B] the score of a child that may be the best one, else −inf
    record: Record  # without metrics


class Search(NamedTuple):
    """A search as pure functions; `step` can be scanned and vmapped if the evaluator is jittable."""

    space: Space
    controller: Controller
    evaluator: Evaluator
    init: Callable[[jax.Array], SearchState]  # key → state
    step: Callable[[SearchState], tuple[SearchState, Record]]  # one round
    rounds: Callable[..., tuple[SearchState, Record]]  # (state, n) → (state, records [CHUNK, ...]), compiled
    preview: Callable[[SearchState, int], Record]  # (state, n) → the first n trials of the next round, untold


def make(
    space: Space,
    controller: Controller,
    evaluator: Evaluator,
    reward: Callable[[dict[str, jax.Array]], jax.Array],  # {name: [B]} → [B]
    rejected: float = float("nan"),
) -> Search:
    """Bind the four parts into a search. A child that the evaluator rejects gets the reward `rejected`.

    Raises:
      InputError: the reward asks for a measure that the evaluator does not report, or the evaluator promises
        per decision what it does not report.
    """
    B, T, prefix = controller.batch_size, space.num_steps, evaluator.prefix
    names = (*evaluator.measures, *evaluator.costs)
    jax.eval_shape(reward, {m: jax.ShapeDtypeStruct((B,), jnp.float32) for m in names})
    if missing := sorted(set(prefix) - set(evaluator.measures)):
        known = ", ".join(evaluator.measures)
        raise InputError(f"evaluator.prefix: got {missing[0]!r}; it takes names of its measures: {known}")

    def init(key: jax.Array) -> SearchState:
        key_controller, key_evaluator, root = jax.random.split(key, 3)
        return SearchState(
            root=root,
            round=jnp.zeros((), jnp.int32),
            controller=controller.init(key_controller),
            evaluator=evaluator.init(key_evaluator),
            best_reward=jnp.full((), -jnp.inf, jnp.float32),
            best_arch=jnp.zeros(space.num_steps, jnp.int32),
            best_trial=jnp.full((), -1, jnp.int32),
        )

    def ask(state: SearchState) -> tuple[Any, jax.Array]:
        key_ask, _, _ = _round_keys(state)
        keys = jax.vmap(lambda i: key_of_trial(state, i))(state.round * B + jnp.arange(B))
        proposal = controller.ask(key_ask, state.controller)
        chex.assert_shape(
            proposal.arch, (B, T), custom_message="the architectures that a controller asks for"
        )
        chex.assert_tree_shape_prefix(proposal.memo, (B,))
        return proposal, keys

    def score_of(measures: dict[str, jax.Array], status: jax.Array, live: jax.Array) -> tuple:
        """→ [B], NaN for a failed child, and [B, T], what of it each decision is told."""
        along = rewards.at_every_decision(reward, measures, prefix, live) if prefix else None
        score = reward(measures) if along is None else jnp.sum(along, axis=-1)
        score = jnp.where(status == OK, score, jnp.nan)
        score = jnp.where(status == REJECTED, jnp.float32(rejected), score)
        score = jnp.where(jnp.isfinite(score), score, jnp.nan)
        per_decision = rewards.terminal(score, live)
        if along is not None:
            per_decision = jnp.where((status == OK)[:, None], along, per_decision)
        return score, jnp.where(jnp.isnan(score)[:, None], jnp.nan, per_decision)

    def judge(state: SearchState, arch: jax.Array, measures: dict[str, jax.Array]) -> Verdict:
        N = len(arch)  # B, less where a budget ends within a round
        chex.assert_shape(arch, (N, T))
        for name in ("status", *names):
            expected = (N, T) if name in prefix else (N,)
            chex.assert_shape(measures[name], expected, custom_message=f"measure {name!r}")
        walk = jax.vmap(lambda a: masks.walk(space, a))(arch)
        status, prefixes = jnp.asarray(measures["status"]), {}
        score, per_decision = score_of(measures, status, walk.live)
        if prefix:
            prefixes = {m: jnp.where(walk.live, v, jnp.nan) for m, v in measures.items() if m in prefix}
            prefixes |= {"reward": jnp.where(walk.live, per_decision, jnp.nan), "live": walk.live}
            measures = {m: rewards.last(v, walk.live) if m in prefix else v for m, v in measures.items()}
        outcome = Outcome(per_decision, {m: measures[m] for m in evaluator.measures}, status)
        rank = jnp.where((status == OK) & ~jnp.isnan(score), score, -jnp.inf)
        taken = jnp.take_along_axis(walk.legal, arch[..., None], axis=-1)[..., 0]
        best = jnp.maximum(state.best_reward, jnp.max(rank))
        record = Record(state.round, arch, measures, jnp.all(taken, axis=-1), score, best, {}, prefixes)
        return Verdict(outcome, rank, record)

    def tell(
        state: SearchState, evaluator_state: PyTree, proposal: Any, measures: dict[str, jax.Array]
    ) -> tuple[SearchState, Record]:
        _, key_tell, _ = _round_keys(state)
        verdict = judge(state, proposal.arch, measures)
        controller_state, metrics = controller.tell(key_tell, state.controller, proposal, verdict.outcome)
        lane = jnp.argmax(verdict.rank).astype(jnp.int32)
        better = verdict.rank[lane] > state.best_reward
        after = SearchState(
            root=state.root,
            round=state.round + 1,
            controller=controller_state,
            evaluator=evaluator_state,
            best_reward=jnp.where(better, verdict.rank[lane], state.best_reward),
            best_arch=jnp.where(better, proposal.arch[lane], state.best_arch),
            best_trial=jnp.where(better, state.round * B + lane, state.best_trial),
        )
        return after, verdict.record._replace(metrics=metrics)

    # Compiled apart for evaluators that run on the host. The barriers keep XLA from fusing across the
    # parts of a scanned round, which keeps its arithmetic that of the parts compiled apart.
    compiled_ask, compiled_tell = jax.jit(ask), jax.jit(tell)
    evaluate = jax.jit(evaluator.evaluate) if evaluator.jittable else evaluator.evaluate

    def step(state: SearchState) -> tuple[SearchState, Record]:
        if not evaluator.jittable:
            proposal, keys = compiled_ask(state)
            evaluator_state, measures = evaluator.evaluate(keys, state.evaluator, proposal.arch)
            return compiled_tell(state, evaluator_state, proposal, measures)
        proposal, keys = ask(state)
        proposal = jax.lax.optimization_barrier(proposal)
        result = evaluator.evaluate(keys, state.evaluator, proposal.arch)
        evaluator_state, measures = jax.lax.optimization_barrier(result)
        return jax.lax.optimization_barrier(tell(state, evaluator_state, proposal, measures))

    @jax.jit
    def compiled_rounds(state: SearchState, n: jax.Array) -> tuple[SearchState, Record]:
        record = jax.eval_shape(step, state)[1]
        buffers = jax.tree.map(lambda r: jnp.zeros((CHUNK, *r.shape), r.dtype), record)

        def body(i: jax.Array, carry: tuple[SearchState, Record]) -> tuple[SearchState, Record]:
            state, records = carry
            state, record = step(state)
            return state, jax.tree.map(lambda rows, row: rows.at[i].set(row), records, record)

        return jax.lax.fori_loop(0, n, body, (state, buffers))

    compiled_judge = jax.jit(lambda *round: judge(*round).record)

    def preview(state: SearchState, n: int) -> Record:
        proposal, keys = compiled_ask(state)
        m = B if evaluator.jittable else n  # compiled for whole rounds, otherwise only what is wanted
        _, measures = evaluate(keys[:m], state.evaluator, proposal.arch[:m])
        return compiled_judge(
            state, proposal.arch[:n], {name: values[:n] for name, values in measures.items()}
        )

    return Search(space, controller, evaluator, init, step, compiled_rounds, preview)


def run(search: Search, state: SearchState, rounds: int) -> tuple[SearchState, Record]:
    """Host: advance a search by so many rounds; returns the state and the stacked records [rounds, ...].

    With a jittable evaluator the rounds run in one compiled loop, otherwise in a Python loop.

    Raises:
      InputError: `rounds` below 1.
    """
    if rounds < 1:
        raise InputError(f"rounds: got {rounds}; it takes 1 or more")
    parts = []
    while rounds > 0:
        if search.evaluator.jittable:
            n = min(rounds, CHUNK)
            state, records = search.rounds(state, jnp.int32(n))
            parts.append(jax.tree.map(partial(_head, n), records))
        else:
            n = 1
            state, record = search.step(state)
            parts.append(jax.tree.map(lambda r: np.asarray(r)[None], record))
        rounds -= n
    return state, jax.tree.map(lambda *rows: np.concatenate(rows), *parts)


def scan(search: Search, state: SearchState, rounds: int) -> tuple[SearchState, Record]:
    """A whole search as one `lax.scan`, to be jitted and vmapped over states; needs a jittable evaluator."""
    return jax.lax.scan(lambda state, _: search.step(state), state, length=rounds)


def key_of_trial(state: SearchState, trial: Any) -> jax.Array:
    """The key that a trial of the search is evaluated with, whatever its state."""
    return jax.random.fold_in(_round_keys(state)[2], trial)


def _round_keys(state: SearchState) -> tuple[jax.Array, jax.Array, jax.Array]:  # of ask, of tell, of trials
    root_rounds, root_trials = jax.random.split(state.root)
    key_ask, key_tell = jax.random.split(jax.random.fold_in(root_rounds, state.round))
    return key_ask, key_tell, root_trials


def _head(n: int, rows: jax.Array) -> np.ndarray:
    return np.asarray(rows[:n])

"""Decisions in groups, where what a group costs is known once it is complete: masks that keep to limits.

The last group of a network is as free as the limits leave it: before any decision, those completions are
looked at that no other one beats in parameters and multiply-adds, the Pareto front of each place. A choice is
legal if some combination of its group's further choices and one of these completions are within the limits.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.spaces import prefix
from jaxnas.spaces.prefix import Prefix

MOST = 2**30 - 2  # parameters or multiply-adds that a limit can be; sums of two fit into int32
COUNTED = 10**5  # a larger space with limits has a bound for its size

Cost = tuple[int, int]  # parameters, multiply-adds


class Group(NamedTuple):
    """Decisions that follow each other."""

    names: tuple[str, ...]
    combinations: tuple[tuple[int, ...], ...]  # of their choices
    follow: Callable[[Any, int], Any]  # (place, combination) → (place, Cost); None where it is illegal


class Walk(NamedTuple):
    """The choices so far, the place, and what the groups that are complete have cost."""

    taken: Prefix
    place: jax.Array  # int32 []
    spent: jax.Array  # int32 [2] parameters, multiply-adds


class Budgeted(NamedTuple):
    """The moves of a space."""

    start: Walk
    step: Callable[[Walk, jax.Array], Walk]
    mask: Callable[[Walk], jax.Array]
    starts: tuple[int, ...]  # the first decision of each group
    num_choices: int
    size: int  # exact without limits, or where it is small; else a bound
    front: tuple[Cost, ...]  # of the smallest networks


def make(groups: Sequence[Group], start: Hashable, end: Callable[[Any], Cost], limits: Cost) -> Budgeted:
    """Moves that keep to limits.

    Args:
      groups: of decisions, in order.
      start: the place before them.
      end: what a network costs beyond its groups, from the last place.
      limits: parameters and multiply-adds at most; 0 for none.
    """
    places, moves = _places(groups, start)
    index = {place: i for i, place in enumerate(places)}
    G, Q, M = len(groups), len(places), max(len(group.combinations) for group in groups)
    D = max(len(group.names) for group in groups)
    choices = np.zeros((G, M, D), np.int32)
    after, costs = np.full((G, Q, M), -1, np.int32), np.zeros((G, Q, M, 2), np.int32)
    fronts = {place: (end(place),) for place in places}
    needs: list[dict] = [{} for _ in groups]
    for g in reversed(range(G)):
        combinations = groups[g].combinations
        choices[g, : len(combinations), : len(groups[g].names)] = combinations
        before = {}
        for place, follow in moves[g].items():
            for m, (to, cost) in follow.items():
                after[g, index[place], m], costs[g, index[place], m] = index[to], np.minimum(cost, MOST + 1)
                needs[g][index[place], m] = [(cost[0] + p, cost[1] + f) for p, f in fronts[to]]
            before[place] = _front([need for m in follow for need in needs[g][index[place], m]])
        fronts = before
    K = max(len(need) for group in needs for need in group.values())
    need = np.full((G, Q, M, K, 2), MOST + 1, np.int32)
    for g, group in enumerate(needs):
        for (q, m), rows in group.items():
            need[g, q, m, : len(rows)] = np.minimum(rows, MOST + 1)
    lengths = [len(group.names) for group in groups]
    T, A = sum(lengths), int(choices.max()) + 1
    first = np.cumsum([0, *lengths[:-1]])
    group_of = jnp.asarray(np.repeat(np.arange(G), lengths))
    begins, ends = jnp.asarray(first), jnp.asarray(first + lengths)
    choices_, after_, costs_, need_ = map(jnp.asarray, (choices, after, costs, need))
    most = jnp.asarray([limit or MOST for limit in limits], jnp.int32)

    def agreeing(walk: Prefix, g: jax.Array, decided: jax.Array) -> jax.Array:  # → bool [M]
        """The combinations of a group with the choices of its first `decided` decisions."""
        chosen = jax.lax.dynamic_slice(jnp.pad(walk.choices, (0, D)), (begins[g],), (D,))
        return jnp.all((choices_[g] == chosen[None]) | (jnp.arange(D) >= decided)[None], axis=1)

    def step(walk: Walk, choice: jax.Array) -> Walk:
        g, depth = group_of[jnp.minimum(walk.taken.depth, T - 1)], walk.taken.depth + 1
        taken = prefix.step(walk.taken, choice)
        m = jnp.argmax(agreeing(taken, g, jnp.int32(D)) & (after_[g, walk.place] >= 0))
        is_complete = depth == ends[g]
        place = jnp.where(is_complete, jnp.maximum(after_[g, walk.place, m], 0), walk.place)
        spent = jnp.minimum(walk.spent + jnp.where(is_complete, costs_[g, walk.place, m], 0), MOST + 1)
        return Walk(taken, place, spent)

    def mask(walk: Walk) -> jax.Array:
        depth = walk.taken.depth
        g = group_of[jnp.minimum(depth, T - 1)]
        possible = agreeing(walk.taken, g, depth - begins[g]) & (after_[g, walk.place] >= 0)
        if any(limits):
            possible &= jnp.any(
                jnp.all(need_[g, walk.place] <= (most - walk.spent)[None, None], axis=-1), axis=-1
            )
        # [M] the choice of the next decision in each combination
        following = jnp.take(choices_[g], jnp.minimum(depth - begins[g], D - 1), axis=1)
        legal = jnp.any(possible[:, None] & (following[:, None] == jnp.arange(A)[None]), axis=0)
        return jnp.where(depth < T, legal, jnp.arange(A) == 0)

    begin = Walk(prefix.start(T), jnp.int32(index[start]), jnp.zeros(2, jnp.int32))
    size = _size(moves, start, end, limits)
    return Budgeted(begin, step, mask, tuple(first.tolist()), A, size, fronts[start])


def _places(groups: Sequence[Group], start: Hashable) -> tuple[list, list[dict]]:
    """The places that can be reached, and of each group {place: {combination: (place, cost)}}."""
    reached, places, moves = {start: None}, {start: None}, []
    for group in groups:
        moves.append({})
        for place in reached:
            followed = ((m, group.follow(place, m)) for m in range(len(group.combinations)))
            moves[-1][place] = {m: move for m, move in followed if move is not None}
        reached = {to: None for follow in moves[-1].values() for to, _ in follow.values()}
        places |= reached
    return list(places), moves


def _front(costs: Sequence[Cost]) -> tuple[Cost, ...]:
    """Those that no other one beats in both."""
    kept: list[Cost] = []
    for cost in sorted(costs):
        if not kept or cost[1] < kept[-1][1]:
            kept.append(cost)
    return tuple(kept)


def _size(moves: list[dict], start: Hashable, end: Callable[[Any], Cost], limits: Cost) -> int:
    """How many ways there are from the start to the end; within the limits if they are few."""
    counts = Counter({start: 1})
    for follow in moves:
        counts = _sum((to, n) for place, n in counts.items() for to, _ in follow[place].values())
    total = counts.total()
    if not any(limits) or total > COUNTED:
        return total
    spent = Counter({(start, 0, 0): 1})
    for follow in moves:
        spent = _sum(
            ((to, p + cost[0], f + cost[1]), n)
            for (place, p, f), n in spent.items()
            for to, cost in follow[place].values()
        )
    least = [limit or np.inf for limit in limits]
    return sum(
        n
        for (place, p, f), n in spent.items()
        if p + end(place)[0] <= least[0] and f + end(place)[1] <= least[1]
    )


def _sum(counts: Any) -> Counter:
    total: Counter = Counter()
    for name, n in counts:
        total[name] += n
    return total

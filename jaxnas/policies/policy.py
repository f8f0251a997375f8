"""What a policy is, and what walks through a space do with it. Shapes: T decisions, A choices."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnas import masks
from jaxnas.types import PyTree, Space


def no_critic(params: PyTree, carry: PyTree, t: jax.Array) -> jax.Array:
    """The value of a policy without a critic: zero."""
    del params, carry, t
    return jnp.zeros(())


class Policy(NamedTuple):
    """Logits decision by decision; `carry` is what the policy remembers of the decisions so far."""

    init: Callable[[jax.Array], PyTree]  # key → params
    start: Callable[[PyTree], PyTree]  # params → carry
    logits: Callable[..., tuple[PyTree, jax.Array]]  # (params, carry, t [], previous []) → (carry, [A])
    value: Callable[..., jax.Array] = no_critic  # (params, the carry of `logits` at t, t []) → []
    # (params, arch [T]) → logits [T, A], values [T]: the same along a whole walk, where that is quick
    along: Callable[[PyTree, jax.Array], tuple[jax.Array, jax.Array]] | None = None


class Unrolled(NamedTuple):
    """A policy along one walk."""

    log_probs: jax.Array  # float32 [T, A]; illegal choices have probability exactly zero where masked
    live: jax.Array  # bool [T]
    value: jax.Array  # float32 [T] V(s_t), the critic's; zeros without one


class Trajectory(NamedTuple):
    """A walk with what its policy thought of it."""

    arch: jax.Array  # int32 [T]
    log_prob: jax.Array  # float32 [T] log π(a_t | s_t)
    value: jax.Array  # float32 [T] V(s_t), the critic's; zeros without one


def unroll(
    policy: Policy,
    space: Space,
    params: PyTree,
    arch: jax.Array,  # int [T]
    temperature: jax.Array | float = 1.0,
    *,
    masked: bool = True,
) -> Unrolled:
    """The policy's distribution at every decision of a given architecture; differentiable.

    Without `masked` it is over all A choices, legal or not: not the distribution that `sample` draws from.
    """
    arch = arch.astype(jnp.int32)
    if policy.along is not None:
        walk, (logits, value) = masks.walk(space, arch), policy.along(params, arch)
        legal = walk.legal if masked else jnp.ones_like(walk.legal)
        log_probs = jax.nn.log_softmax(masks.mask_logits(logits / temperature, legal))
        return Unrolled(log_probs, walk.live, value)

    def decide(walk: PyTree, carry: tuple, choice: jax.Array) -> tuple[jax.Array, tuple, Unrolled]:
        carry, log_probs, value = _look(policy, space, params, walk, carry, temperature, masked)
        return choice, (carry, choice), Unrolled(log_probs, ~space.done(walk), value)

    return masks.rollout(space, decide, arch, _start(policy, params))


def trajectory(
    key: jax.Array, policy: Policy, space: Space, params: PyTree, temperature: jax.Array | float = 1.0
) -> Trajectory:
    """One architecture drawn from the policy, with its log-probabilities and values."""
    keys = jax.random.split(key, space.num_steps)
    arch, log_probs, value = _roll(policy, space, params, temperature, keys, greedy=False)
    return Trajectory(arch, jnp.take_along_axis(log_probs, arch[:, None], axis=-1)[:, 0], value)


def sample(
    key: jax.Array, policy: Policy, space: Space, params: PyTree, temperature: jax.Array | float = 1.0
) -> jax.Array:  # → int32 [T]
    """One architecture drawn from the policy."""
    return trajectory(key, policy, space, params, temperature).arch


def greedy(policy: Policy, space: Space, params: PyTree) -> tuple[jax.Array, jax.Array]:  # [T], [T, A]
    """The architecture of the likeliest choice at every decision, and the probabilities along it."""
    arch, log_probs, _ = _roll(policy, space, params, 1.0, jnp.zeros(space.num_steps), greedy=True)
    return arch, jnp.exp(log_probs)


def _roll(
    policy: Policy, space: Space, params: PyTree, temperature: Any, keys: jax.Array, *, greedy: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:  # → int32 [T], [T, A], [T]
    def decide(walk: PyTree, carry: tuple, key: jax.Array) -> tuple[jax.Array, tuple, tuple]:
        carry, log_probs, value = _look(policy, space, params, walk, carry, temperature)
        choice = jnp.argmax(log_probs) if greedy else jax.random.categorical(key, log_probs)
        choice = choice.astype(jnp.int32)
        return choice, (carry, choice), (choice, log_probs, value)

    return masks.rollout(space, decide, keys, _start(policy, params))


def _start(policy: Policy, params: PyTree) -> tuple[tuple[PyTree, jax.Array], jax.Array]:
    """(what the policy remembers, decision t), and the previous choice: what `_look` is given at first."""
    zero = jnp.zeros((), jnp.int32)
    return (policy.start(params), zero), zero


def _look(
    policy: Policy,
    space: Space,
    params: PyTree,
    walk: PyTree,
    carry: tuple,
    temperature: Any,
    masked: bool = True,
) -> tuple[
    tuple[PyTree, jax.Array], jax.Array, jax.Array
]:  # → (memory, t + 1), log π(· | s_t) [A], V(s_t) []
    (memory, t), previous = carry
    memory, logits = policy.logits(params, memory, t, previous)
    logits = logits / temperature
    log_probs = jax.nn.log_softmax(masks.mask_logits(logits, space.mask(walk)) if masked else logits)
    return (memory, t + 1), log_probs, policy.value(params, memory, t)

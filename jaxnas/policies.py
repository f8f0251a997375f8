"""Stochastic policies over a space: logits from an LSTM or from a free table, always masked.

A policy gives logits one decision at a time, so that the same functions, `sample`, `trajectory` and
`unroll`, serve every policy. With `critic` it also values the walk so far. Shapes: T decisions, A choices.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxnas import masks
from jaxnas.errors import unknown
from jaxnas.types import PyTree, Space


def _no_critic(params: PyTree, carry: PyTree, t: jax.Array) -> jax.Array:
    del params, carry, t
    return jnp.zeros(())


class Policy(NamedTuple):
    """Logits decision by decision; `carry` is what the policy remembers of the decisions so far."""

    init: Callable[[jax.Array], PyTree]  # key → params
    start: Callable[[PyTree], PyTree]  # params → carry
    logits: Callable[..., tuple[PyTree, jax.Array]]  # (params, carry, t [], previous []) → (carry, [A])
    value: Callable[..., jax.Array] = _no_critic  # (params, the carry of `logits` at t, t []) → []


class Unrolled(NamedTuple):
    """A policy along one walk."""

    log_probs: jax.Array  # float32 [T, A] masked; illegal choices have probability exactly zero
    live: jax.Array  # bool [T]
    value: jax.Array  # float32 [T] V(s_t), the critic's; zeros without one


class Trajectory(NamedTuple):
    """A walk with what its policy thought of it."""

    arch: jax.Array  # int32 [T]
    log_prob: jax.Array  # float32 [T] log π(a_t | s_t)
    value: jax.Array  # float32 [T] V(s_t), the critic's; zeros without one


def free_logits(space: Space, *, critic: bool = False) -> Policy:
    """One independent table of logits [T, A], as in NATS-Bench's REINFORCE; starts at 10⁻³·N(0, 1).

    The critic is a table of values [T], which starts at zero.
    """
    T, A = space.num_steps, space.num_choices

    def init(key: jax.Array) -> PyTree:
        table = 1e-3 * jax.random.normal(key, (T, A))
        return (table, jnp.zeros(T)) if critic else table

    def logits(params: PyTree, carry: PyTree, t: jax.Array, previous: jax.Array) -> tuple[PyTree, jax.Array]:
        del previous
        return carry, (params[0] if critic else params)[t]

    value = (lambda params, carry, t: params[1][t]) if critic else _no_critic
    return Policy(init, lambda params: (), logits, value)


class _LSTM(nn.Module):
    """One LSTM layer, an embedding of the previous choice and heads for every decision."""

    num_steps: int
    num_choices: int
    units: int
    critic: bool

    def setup(self) -> None:
        init = nn.initializers.zeros  # shapes alone; `lstm` draws the values
        self.cell = nn.OptimizedLSTMCell(
            self.units, kernel_init=init, recurrent_kernel_init=init, bias_init=init
        )
        self.embedding = self.param("embedding", init, (self.num_steps, self.num_choices, self.units))
        self.kernel = self.param("kernel", init, (self.num_steps, self.units, self.num_choices))
        self.bias = self.param("bias", init, (self.num_steps, self.num_choices))
        if self.critic:
            self.value_kernel = self.param("value_kernel", init, (self.num_steps, self.units))
            self.value_bias = self.param("value_bias", init, (self.num_steps,))

    def __call__(self) -> jax.Array:
        """Touch every parameter once, for `init`."""
        return self.head(self.feed(self.zeros(), jnp.zeros(self.units)), jnp.zeros((), jnp.int32))

    def zeros(self) -> PyTree:
        return (jnp.zeros(self.units), jnp.zeros(self.units))

    def feed(self, carry: PyTree, inputs: jax.Array) -> PyTree:
        return self.cell(carry, inputs)[0]

    def feed_choice(self, carry: PyTree, t: jax.Array, previous: jax.Array) -> PyTree:
        embedded = self.embedding[t, previous] * (t > 0).astype(jnp.float32)  # zeros before the first
        return self.feed(carry, embedded)

    def head(self, carry: PyTree, t: jax.Array) -> jax.Array:
        return carry[1] @ self.kernel[t] + self.bias[t]

    def value(self, carry: PyTree, t: jax.Array) -> jax.Array:
        return carry[1] @ self.value_kernel[t] + self.value_bias[t]


def lstm(space: Space, *, units: int = 100, feedback: bool = True, critic: bool = False) -> Policy:
    """A one-layer LSTM with a head for every decision (Zoph et al. 2018, appendix A.1: 100 units).

    All parameters start uniform in [−0.1, 0.1], as there. With `feedback` the choice just made is the next
    input; without it the LSTM runs for one step on zeros and every head reads that one state, which makes
    the decisions independent (RLMedNAS's code). The critic is one more head on the same state (Mnih et al.
    2016, section 4: all layers but the last are shared).
    """
    module = _LSTM(space.num_steps, space.num_choices, units, critic)

    def init(key: jax.Array) -> PyTree:
        """All parameters from one draw: a draw for each would take seconds to compile."""
        shapes = jax.eval_shape(module.init, key)
        flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes))
        return unravel(jax.random.uniform(key, flat.shape, minval=-0.1, maxval=0.1))

    def call(params: PyTree, method: str, *args: Any) -> Any:
        return module.apply(params, *args, method=method)

    def start(params: PyTree) -> PyTree:
        zeros = call(params, "zeros")
        return zeros if feedback else call(params, "feed", zeros, jnp.zeros(units))

    def logits(params: PyTree, carry: PyTree, t: jax.Array, previous: jax.Array) -> tuple[PyTree, jax.Array]:
        if feedback:
            carry = call(params, "feed_choice", carry, t, previous)
        return carry, call(params, "head", carry, t)

    def value(params: PyTree, carry: PyTree, t: jax.Array) -> jax.Array:
        return call(params, "value", carry, t)

    return Policy(init, start, logits, value if critic else _no_critic)


def make(name: str, space: Space, *, units: int, feedback: bool = True, critic: bool = False) -> Policy:
    """The policy of that name, for the controllers that take `policy` as an option."""
    if name == "lstm":
        return lstm(space, units=units, feedback=feedback, critic=critic)
    if name == "free_logits":
        return free_logits(space, critic=critic)
    raise unknown("controller.policy", name, ("lstm", "free_logits"))


def shares(space: Space, arch: jax.Array) -> PyTree:  # int32 [M, T] → params of `free_logits`
    """Free logits that give each choice its share among these architectures; rows of −1 are left out.

    Where none of them made a legal choice, all legal ones are equal.
    """
    return jnp.log(jnp.sum(jax.nn.one_hot(arch, space.num_choices), axis=0) + 1e-6)


def unroll(
    policy: Policy, space: Space, params: PyTree, arch: jax.Array, temperature: jax.Array | float = 1.0
) -> Unrolled:  # arch [T]
    """The policy's masked distribution at every decision of a given architecture; differentiable."""

    def decide(carry: tuple, choice: jax.Array) -> tuple[tuple, Unrolled]:
        _, walk, _, t = carry
        memory, log_probs, value = _look(policy, space, params, carry, temperature)
        return (memory, space.step(walk, choice), choice, t + 1), Unrolled(
            log_probs, ~space.done(walk), value
        )

    return jax.lax.scan(decide, _start(policy, space, params), arch.astype(jnp.int32))[1]


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
    def decide(carry: tuple, key: jax.Array) -> tuple[tuple, tuple]:
        _, walk, _, t = carry
        memory, log_probs, value = _look(policy, space, params, carry, temperature)
        choice = jnp.argmax(log_probs) if greedy else jax.random.categorical(key, log_probs)
        choice = choice.astype(jnp.int32)
        return (memory, space.step(walk, choice), choice, t + 1), (choice, log_probs, value)

    return jax.lax.scan(decide, _start(policy, space, params), keys)[1]


def _start(policy: Policy, space: Space, params: PyTree) -> tuple:
    zero = jnp.zeros((), jnp.int32)
    return policy.start(params), space.start, zero, zero


def _look(
    policy: Policy, space: Space, params: PyTree, carry: tuple, temperature: Any
) -> tuple[PyTree, jax.Array, jax.Array]:  # → memory, log π(· | s_t) [A], V(s_t) []
    memory, walk, previous, t = carry
    memory, logits = policy.logits(params, memory, t, previous)
    log_probs = jax.nn.log_softmax(masks.mask_logits(logits / temperature, space.mask(walk)))
    return memory, log_probs, policy.value(params, memory, t)

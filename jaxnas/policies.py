"""Stochastic policies over a space: logits from an LSTM, dense layers or a free table, masked.

A policy gives logits one decision at a time, so that the same functions, `sample`, `trajectory` and
`unroll`, serve every policy. With `critic` it also values the walk so far. Shapes: T decisions, A choices.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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

    def along(params: PyTree, arch: jax.Array) -> tuple[jax.Array, jax.Array]:
        del arch
        return params if critic else (params, jnp.zeros(T))

    value = (lambda params, carry, t: params[1][t]) if critic else _no_critic
    return Policy(init, lambda params: (), logits, value, along)


class LSTMParams(NamedTuple):
    """An LSTM of U units, an embedding of the previous choice and heads for every decision."""

    embedding: jax.Array  # float32 [T, A, U]
    inputs: jax.Array  # [U, 4U] of the gates f, g, i, o
    recurrent: jax.Array  # [U, 4U]
    gate_bias: jax.Array  # [4U]
    kernel: jax.Array  # [T, U, A] of the heads
    bias: jax.Array  # [T, A]
    value_kernel: PyTree  # [T, U] of the critic; None without one
    value_bias: PyTree  # [T]; None


def lstm(space: Space, *, units: int = 100, feedback: bool = True, critic: bool = False) -> Policy:
    """A one-layer LSTM with a head for every decision (Zoph et al. 2018, appendix A.1: 100 units).

    All parameters start uniform in [−0.1, 0.1], as there. With `feedback` the choice just made is the next
    input; without it the LSTM runs for one step on zeros and every head reads that one state, which makes
    the decisions independent (RLMedNAS's code). The critic is one more head on the same state (Mnih et al.
    2016, section 4: all layers but the last are shared).
    """
    T, A, U = space.num_steps, space.num_choices, units
    C = T if critic else 0
    zeros = (jnp.zeros(U), jnp.zeros(U))

    def init(key: jax.Array) -> LSTMParams:
        """All parameters from one draw: a draw for each would take seconds to compile."""
        sizes = (T * A, 4 * U * (1 + U), 4 * U * U, T * A * U, T * U * A, C, C * U)
        flat = jax.random.uniform(key, (sum(sizes),), minval=-0.1, maxval=0.1)
        bias, hidden, inputs, embedding, kernel, value_bias, value_kernel = jnp.split(
            flat, np.cumsum(sizes)[:-1]
        )
        hidden = hidden.reshape(4, U * (1 + U))  # a gate's bias, then its kernel
        return LSTMParams(
            embedding=embedding.reshape(T, A, U),
            inputs=_side_by_side(inputs.reshape(4, U, U)),
            recurrent=_side_by_side(hidden[:, U:].reshape(4, U, U)),
            gate_bias=hidden[:, :U].ravel(),
            kernel=kernel.reshape(T, U, A),
            bias=bias.reshape(T, A),
            value_kernel=value_kernel.reshape(T, U) if critic else None,
            value_bias=value_bias if critic else None,
        )

    def start(params: LSTMParams) -> PyTree:
        return zeros if feedback else _cell(zeros, params.gate_bias)

    def logits(params: LSTMParams, carry: PyTree, t: jax.Array, previous: jax.Array) -> tuple:
        if feedback:
            embedded = params.embedding[t, previous] * (t > 0).astype(jnp.float32)  # zeros before the first
            carry = _cell(carry, carry[1] @ params.recurrent + params.gate_bias + embedded @ params.inputs)
        return carry, carry[1] @ params.kernel[t] + params.bias[t]

    def value(params: LSTMParams, carry: PyTree, t: jax.Array) -> jax.Array:
        return carry[1] @ params.value_kernel[t] + params.value_bias[t]

    def along(params: LSTMParams, arch: jax.Array) -> tuple[jax.Array, jax.Array]:
        if feedback:
            previous = jnp.concatenate([jnp.zeros(1, jnp.int32), arch[:-1]])
            embedded = params.embedding[jnp.arange(T), previous].at[0].set(0.0)
            hidden = _recur(embedded @ params.inputs + params.gate_bias[None, :], params.recurrent)
        else:
            hidden = jnp.broadcast_to(start(params)[1], (T, U))
        logits = jnp.einsum("tu,tua->ta", hidden, params.kernel) + params.bias
        if not critic:
            return logits, jnp.zeros(T)
        return logits, jnp.sum(hidden * params.value_kernel, axis=-1) + params.value_bias

    return Policy(init, start, logits, value if critic else _no_critic, along)


def _side_by_side(gates: jax.Array) -> jax.Array:  # [4, U, U] → [U, 4U]
    return jnp.swapaxes(gates, 0, 1).reshape(gates.shape[1], -1)


def _cell(carry: tuple[jax.Array, jax.Array], gates: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(c, h) [U] and the gates [4U] before their nonlinearities → (c, h) (Hochreiter & Schmidhuber 1997)."""
    f, g, i, o = jnp.split(gates, 4)
    memory = jax.nn.sigmoid(f) * carry[0] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return memory, jax.nn.sigmoid(o) * jnp.tanh(memory)


@jax.custom_vjp
def _recur(given: jax.Array, recurrent: jax.Array) -> jax.Array:  # [T, 4U], [U, 4U] → [T, U]
    """The hidden states along known inputs to the gates, with a gradient that is quick.

    Automatic differentiation sums the gradient of the recurrent kernel up decision by decision, which takes
    as long as all else; here it is one product of matrices after the loop.
    """
    return _recur_forward(given, recurrent)[0]


def _recur_forward(given: jax.Array, recurrent: jax.Array) -> tuple[jax.Array, tuple]:
    def step(carry: tuple[jax.Array, jax.Array], given: jax.Array) -> tuple[tuple, tuple]:
        gates = carry[1] @ recurrent + given
        after = _cell(carry, gates)
        return after, (after[1], carry, gates)

    start = jnp.zeros(recurrent.shape[0]), jnp.zeros(recurrent.shape[0])
    hidden, before, gates = jax.lax.scan(step, start, given)[1]
    return hidden, (before, gates, recurrent)


def _recur_backward(residuals: tuple, d_hidden: jax.Array) -> tuple[jax.Array, jax.Array]:
    before, gates, recurrent = residuals

    def step(d_after: tuple[jax.Array, jax.Array], inputs: tuple) -> tuple[tuple, jax.Array]:
        carry, gates, d_hidden = inputs
        _, gradient = jax.vjp(_cell, carry, gates)
        (d_memory, _), d_gates = gradient((d_after[0], d_after[1] + d_hidden))
        return (d_memory, recurrent @ d_gates), d_gates

    end = jax.tree.map(lambda x: jnp.zeros_like(x[0]), before)
    d_gates = jax.lax.scan(step, end, (before, gates, d_hidden), reverse=True)[1]
    return d_gates, before[1].T @ d_gates


_recur.defvjp(_recur_forward, _recur_backward)


def dense(space: Space, *, units: int = 35, critic: bool = False) -> Policy:
    """Two layers of ReLUs over the choices so far, and one softmax that all decisions share.

    The input is the vector of the choices themselves, −1 where none is made yet. Glorot's uniform kernels,
    zero biases. The NASNet controller of https://github.com/michelesalvucci/DLMAIRIL_RL_based_NAS (35
    units); the critic, which that does not have, is one more output.
    """
    T, A = space.num_steps, space.num_choices
    widths = (T, units, units, A + critic)

    def init(key: jax.Array) -> PyTree:
        glorot, keys = jax.nn.initializers.glorot_uniform(), jax.random.split(key, len(widths) - 1)
        layers = zip(keys, itertools.pairwise(widths), strict=True)
        return [(glorot(k, shape), jnp.zeros(shape[1])) for k, shape in layers]

    def outputs(params: PyTree, choices: jax.Array) -> jax.Array:  # [T] → [A + critic]
        *hidden, (kernel, bias) = params
        for weights, offsets in hidden:
            choices = jax.nn.relu(choices @ weights + offsets)
        return choices @ kernel + bias

    def logits(params: PyTree, carry: PyTree, t: jax.Array, previous: jax.Array) -> tuple[PyTree, jax.Array]:
        choices = jnp.where(jnp.arange(T) == t - 1, previous.astype(jnp.float32), carry)
        return choices, outputs(params, choices)[:A]

    value = (lambda params, carry, t: outputs(params, carry)[A]) if critic else _no_critic
    return Policy(init, lambda params: jnp.full(T, -1.0), logits, value)


def make(name: str, space: Space, *, units: int, feedback: bool = True, critic: bool = False) -> Policy:
    """The policy of that name, for the controllers that take `policy` as an option."""
    if name == "lstm":
        return lstm(space, units=units, feedback=feedback, critic=critic)
    if name == "dense":
        return dense(space, units=units, critic=critic)
    if name == "free_logits":
        return free_logits(space, critic=critic)
    raise unknown("controller.policy", name, ("lstm", "dense", "free_logits"))


def shares(space: Space, arch: jax.Array) -> PyTree:  # int32 [M, T] → params of `free_logits`
    """Free logits that give each choice its share among these architectures; rows of −1 are left out.

    Where none of them made a legal choice, all legal ones are equal.
    """
    return jnp.log(jnp.sum(jax.nn.one_hot(arch, space.num_choices), axis=0) + 1e-6)


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

    def decide(carry: tuple, choice: jax.Array) -> tuple[tuple, Unrolled]:
        _, walk, _, t = carry
        memory, log_probs, value = _look(policy, space, params, carry, temperature, masked)
        return (memory, space.step(walk, choice), choice, t + 1), Unrolled(
            log_probs, ~space.done(walk), value
        )

    return jax.lax.scan(decide, _start(policy, space, params), arch)[1]


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
    policy: Policy, space: Space, params: PyTree, carry: tuple, temperature: Any, masked: bool = True
) -> tuple[PyTree, jax.Array, jax.Array]:  # → memory, log π(· | s_t) [A], V(s_t) []
    memory, walk, previous, t = carry
    memory, logits = policy.logits(params, memory, t, previous)
    logits = logits / temperature
    log_probs = jax.nn.log_softmax(masks.mask_logits(logits, space.mask(walk)) if masked else logits)
    return memory, log_probs, policy.value(params, memory, t)

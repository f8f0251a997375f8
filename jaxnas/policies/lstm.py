"""An LSTM with a head for every decision (Zoph et al. 2018, https://arxiv.org/abs/1707.07012, A.1)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.policies.policy import Policy, no_critic
from jaxnas.types import PyTree, Space


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

    return Policy(init, start, logits, value if critic else no_critic, along)


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

"""Priority queue training: a policy learns to write the best architectures so far, and near them.

Abolafia, Norouzi, Shen, Zhao & Le, "Neural Program Synthesis with Priority Queue Training", 2018,
https://arxiv.org/abs/1801.03526, section 3.

Suits small budgets, up to a few hundred trials: the reinforcement learning to begin with.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas import masks, policies, rl
from jaxnas import memory as rows
from jaxnas.errors import require
from jaxnas.types import Controller, Outcome, Proposal, PyTree, Space


class PriorityQueueState(NamedTuple):
    """θ, the optimizer's state, b of the policy gradient, and the queue."""

    params: PyTree
    optimizer: PyTree
    baseline: PyTree
    queue: rows.Memory  # the best distinct architectures; its values are their rewards [K]


def priority_queue(
    space: Space,
    *,
    batch_size: int = 8,
    queue_size: int = 4,
    updates: int = 16,
    policy: str = "free_logits",
    units: int = 100,
    learning_rate: float = 0.05,
    adam_epsilon: float = 1e-4,
    entropy_weight: float = 0.6,
    policy_gradient_weight: float = 0.0,
    baseline_decay: float = 0.9,
) -> Controller:
    """Maximise (1/K) Σ_k log π(a_k) + (1/B) Σ_b Σ_t [β H(π(· | a_{<t})) + c log π(a_t | a_{<t})(G_t − b)].

    The first mean is over the queue, the K best distinct architectures so far, the second over the round's
    own. An architecture stands in the queue with the best reward that it ever had, a newcomer has to beat
    the worst one, and a failed child never enters. The entropy bonus keeps the policy from copying the
    queue: at β = 0.6 free logits still change a decision of five choices that the whole queue agrees on
    with probability 0.28.

    The defaults were chosen on NAS-Bench-201's CIFAR-10 for a few hundred trials; the paper has K = 10, an
    LSTM, one update a round, and c = 1 beside this objective or 0.

    Args:
      batch_size: architectures proposed a round, B.
      queue_size: K, architectures in the queue.
      updates: gradient steps a round; with the policy gradient all but the first are off-policy.
      policy: free_logits or lstm.
      units: hidden units of the LSTM.
      learning_rate: α of Adam.
      adam_epsilon: ε of Adam.
      entropy_weight: β, the weight of the entropy bonus, per nat.
      policy_gradient_weight: c, the weight of REINFORCE's objective; 0 leaves it out.
      baseline_decay: decay of its moving average b of rewards, a round.

    Raises:
      InputError: a value out of its range.
    """
    require(
        "controller",
        ("batch_size", batch_size, batch_size >= 1, "1 or more"),
        ("queue_size", queue_size, queue_size >= 1, "1 or more"),
        ("updates", updates, updates >= 1, "1 or more"),
        ("units", units, units >= 1, "1 or more"),
        ("learning_rate", learning_rate, learning_rate > 0, "a positive number"),
        ("adam_epsilon", adam_epsilon, adam_epsilon > 0, "a positive number"),
        ("entropy_weight", entropy_weight, entropy_weight >= 0, "0 or more"),
        ("policy_gradient_weight", policy_gradient_weight, policy_gradient_weight >= 0, "0 or more"),
        ("baseline_decay", baseline_decay, 0 <= baseline_decay < 1, "a number in [0, 1)"),
    )
    pi = policies.make(policy, space, units=units)
    b = rl.ema_baseline(baseline_decay)
    optimizer = optax.adam(learning_rate, eps=adam_epsilon)
    K = queue_size

    def init(key: jax.Array) -> PriorityQueueState:
        params = pi.init(key)
        queue = rows.empty(K, space.num_steps, jnp.zeros(()))
        return PriorityQueueState(params, optimizer.init(params), b.init, queue)

    def ask(key: jax.Array, state: PriorityQueueState) -> Proposal:
        keys = jax.random.split(key, batch_size)
        return Proposal(jax.vmap(lambda k: policies.sample(k, pi, space, state.params))(keys), memo=())

    def tell(
        key: jax.Array, state: PriorityQueueState, proposal: Proposal, outcome: Outcome
    ) -> tuple[PriorityQueueState, dict[str, jax.Array]]:
        del key
        valid, reward = rl.rewards_of(proposal, outcome)
        total = jnp.sum(reward, axis=-1)
        queue, _ = jax.lax.scan(
            lambda queue, trial: (rows.push_best(queue, *trial), None),
            state.queue,
            (proposal.arch, total, valid),
        )
        baseline_state, level = b.update(state.baseline, total, valid)
        advantage = rl.returns(reward) - level
        queued = jnp.arange(K) < rows.filled(queue)
        arch = jnp.concatenate([queue.arch, proposal.arch])

        def loss(params: PyTree) -> tuple[jax.Array, dict[str, jax.Array]]:
            log_probs, live, _ = jax.vmap(lambda a: policies.unroll(pi, space, params, a))(arch)
            log_prob = jnp.sum(jnp.where(live, rl.taken(log_probs, arch), 0.0), axis=-1)  # [K + B]
            queue_loss = -rl.masked_mean(log_prob[:K], queued)
            entropy = jnp.where(live, masks.entropy(log_probs), 0.0)[K:]  # [B, T]
            bonus = rl.masked_mean(jnp.sum(entropy, axis=-1), valid)
            policy_loss = rl.reinforce_loss(log_probs[K:], proposal.arch, advantage, live[K:], valid)
            summed = queue_loss - entropy_weight * bonus + policy_gradient_weight * policy_loss
            metrics = {
                "loss": summed,
                "queue_loss": queue_loss,
                "entropy": rl.masked_mean(entropy, live[K:] & valid[:, None]),  # nats a decision
            }
            return summed, metrics

        def descend(carry: tuple[PyTree, PyTree], _: None) -> tuple[tuple, dict[str, jax.Array]]:
            gradient, metrics = jax.grad(loss, has_aux=True)(carry[0])
            metrics["gradient_norm"] = optax.tree.norm(gradient)
            return rl.descend(optimizer, gradient, *carry, jnp.any(valid)), metrics

        learned, metrics = jax.lax.scan(descend, (state.params, state.optimizer), length=updates)
        metrics = {name: jnp.mean(x) for name, x in metrics.items()}
        worst = jnp.min(jnp.where(queued, queue.values, jnp.inf))
        metrics |= {"baseline": level, "queue_worst": jnp.where(jnp.any(queued), worst, 0.0)}
        return PriorityQueueState(*learned, baseline_state, queue), metrics

    return Controller(batch_size, init, ask, tell, lambda s: policies.greedy(pi, space, s.params))

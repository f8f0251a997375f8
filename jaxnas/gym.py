"""A space as a Gymnasium environment, for agents from elsewhere: one decision a step.

    import gymnasium, jaxnas.gym
    env = gymnasium.make("jaxnas/CNN-v0")

An episode is one architecture; its reward comes with the last decision, zero before. Rules, masks and states
are the space's own. The default is the environment of https://github.com/eshwarprasadS/Deep_RL_For_CNN.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import evaluators, rewards, spaces
from jaxnas.errors import InputError, unknown
from jaxnas.spaces.cnn_mdp import seven
from jaxnas.types import OK, STATUS, Evaluator, Space

try:
    import gymnasium
except ImportError:
    raise ImportError("jaxnas.gym needs gymnasium; pip install 'jaxnas[gym]'") from None


class SpaceEnv(gymnasium.Env):
    """A space as an environment.

    With `face="seven"` actions and observations are the seven numbers of `spaces.cnn_mdp.seven`; with
    "flat" an action is a choice of the space, an observation what the space's `observe` gives. The info of
    the last step holds the architecture, its status and its measures.

    Args:
      space: any space for "flat", one that `cnn_mdp` made for "seven"; by default `spaces.cnn_mdp()`.
      evaluator: what measures a finished architecture; by default `evaluators.mock(space)`.
      reward: measures {name: [1]} → [1]; by default the accuracy.
      face: seven or flat.
      failure_reward: of a child that fails; an illegal action ends the episode with it, too.
      render_mode: ansi for the layers so far as text.

    Raises:
      InputError: an unknown face, or one that the space does not have.
    """

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012

    def __init__(
        self,
        space: Space | None = None,
        evaluator: Evaluator | None = None,
        reward: Callable[[dict[str, Any]], Any] = rewards.accuracy,
        *,
        face: Literal["seven", "flat"] = "seven",
        failure_reward: float = 0.0,
        render_mode: str | None = None,
    ):
        if face not in ("seven", "flat"):
            raise unknown("face", face, ("seven", "flat"))
        self.space = spaces.cnn_mdp() if space is None else space
        if face == "seven" and self.space.name != "cnn_mdp":
            raise InputError(f"face: 'seven' is of space cnn_mdp, not of {self.space.name}; take 'flat'")
        self.evaluator = evaluators.mock(self.space) if evaluator is None else evaluator
        self.reward, self.failure_reward, self.render_mode = reward, failure_reward, render_mode
        self.seven = seven(self.space) if face == "seven" else None
        self._step, self._mask, self._observe, self._done = (
            jax.jit(f) for f in (self.space.step, self.space.mask, self.space.observe, self.space.done)
        )
        evaluate = self.evaluator.evaluate
        self._evaluate = jax.jit(evaluate) if self.evaluator.jittable else evaluate
        self._root: jax.Array | None = None
        if self.seven:
            self.action_space = gymnasium.spaces.MultiDiscrete(list(self.seven.sizes))
            self.observation_space = gymnasium.spaces.MultiDiscrete(list(self.seven.sizes))
        else:
            self.action_space = gymnasium.spaces.Discrete(self.space.num_choices)
            width = self._observe(self.space.start).shape
            self.observation_space = gymnasium.spaces.Box(0.0, 1.0, width, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an architecture; a seed starts the random numbers of the evaluations, too."""
        super().reset(seed=seed)
        if self._root is None or seed is not None:
            self._root = jax.random.key(int(self.np_random.integers(2**32)))
            self._trial, self._state = 0, self.evaluator.init(jax.random.fold_in(self._root, 0))
        self._walk, self._arch = self.space.start, []
        return self._observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take a decision: (observation, reward, terminated, truncated, info)."""
        if bool(self._done(self._walk)):
            raise InputError("this architecture is finished; call reset")
        legal = np.asarray(self._mask(self._walk))
        depth = len(self._arch)
        choice = self.seven.choice(legal, depth, action) if self.seven else int(action)
        if choice is None or not legal[choice]:
            return self._observation(), self.failure_reward, True, False, {"illegal": True}
        self._walk = self._step(self._walk, jnp.int32(choice))
        self._arch.append(choice)
        if not bool(self._done(self._walk)):
            return self._observation(), 0.0, False, False, {}
        reward, info = self._measure()
        return self._observation(), reward, True, False, info

    def action_masks(self) -> np.ndarray:
        """bool [A], or [N] for the values of the seven numbers one after the other; True is legal."""
        legal = np.asarray(self._mask(self._walk))
        return self.seven.masks(legal, len(self._arch)) if self.seven else legal

    def render(self) -> str:
        """The layers so far."""
        return " - ".join(filter(None, self.space.decode(self._padded()).values()))

    def _padded(self) -> np.ndarray:
        return np.pad(np.array(self._arch, np.int32), (0, self.space.num_steps - len(self._arch)))

    def _observation(self) -> np.ndarray:
        if self.seven:
            return self.seven.state(self._arch[-1] if self._arch else 0, len(self._arch))
        return np.asarray(self._observe(self._walk))

    def _measure(self) -> tuple[float, dict[str, Any]]:
        arch = self._padded()
        assert self._root is not None
        self._trial += 1
        key = jax.random.fold_in(self._root, self._trial)
        self._state, measures = self._evaluate(key[None], self._state, jnp.asarray(arch)[None])
        status, prefix = int(measures["status"][0]), self.evaluator.prefix
        live = jnp.arange(len(arch))[None, :] < len(self._arch)
        if prefix:
            score = jnp.sum(rewards.at_every_decision(self.reward, measures, prefix, live), axis=-1)
            measures = {m: rewards.last(v, live) if m in prefix else v for m, v in measures.items()}
        else:
            score = self.reward(measures)
        info = {name: float(values[0]) for name, values in measures.items() if name != "status"}
        info |= {"architecture": self.space.describe(arch), "status": STATUS[status][0]}
        reward = float(np.asarray(score)[0])
        return reward if status == OK and np.isfinite(reward) else self.failure_reward, info


gymnasium.register("jaxnas/CNN-v0", entry_point="jaxnas.gym:SpaceEnv")

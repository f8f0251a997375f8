"""Train MaskablePPO of sb3-contrib on the Gymnasium environment of a space, and compare with random search.

sb3-contrib brings torch, which jaxnas does not need: give the two an environment of their own.

    python3.11 -m venv /path/to/ppo && . /path/to/ppo/bin/activate
    pip install torch sb3-contrib && pip install -e '.[gym]'
    python scripts/maskable_ppo.py --steps 7000

Settings as in https://github.com/eshwarprasadS/Deep_RL_For_CNN: 32 steps an update, 7,000 in all, the
other values those of sb3-contrib (learning rate 3e-4, batches of 64 cut to 32, clip range 0.2).
"""

import argparse

import gymnasium
import numpy as np

import jaxnas.gym  # noqa: F401, it registers the environment
from jaxnas import spaces


def play(env, choose, episodes: int) -> tuple[list[float], list[int], list[str]]:
    """(reward, layers, architecture) of so many architectures."""
    found = []
    for _ in range(episodes):
        observation, _ = env.reset()
        steps, terminated = 0, False
        while not terminated:
            mask = env.unwrapped.action_masks()
            observation, reward, terminated, _, info = env.step(choose(observation, mask))
            steps += 1
        found.append((reward, steps, info["architecture"]))
    returns, lengths, architectures = zip(*found, strict=True)
    return list(returns), list(lengths), list(architectures)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=7000, help="decisions to train on")
    parser.add_argument("--episodes", type=int, default=50, help="architectures to evaluate after it")
    parser.add_argument("--face", choices=("seven", "flat"), default="seven")
    parser.add_argument("--preset", choices=("mnist3", "cifar5", "cifar10"), default="cifar5")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    from sb3_contrib import MaskablePPO  # pyright: ignore[reportMissingImports]

    env = gymnasium.make("jaxnas/CNN-v0", space=spaces.cnn_mdp(preset=given.preset), face=given.face)
    env.reset(seed=given.seed)
    rng = np.random.default_rng(given.seed)

    def at_random(observation: np.ndarray, mask: np.ndarray) -> object:
        sizes = getattr(env.action_space, "nvec", None)
        if sizes is None:
            return rng.choice(np.flatnonzero(mask))
        parts = np.split(mask, np.cumsum(sizes)[:-1])
        return np.array([rng.choice(np.flatnonzero(part)) for part in parts])

    before = play(env, at_random, given.episodes)
    model = MaskablePPO("MlpPolicy", env, n_steps=32, batch_size=32, seed=given.seed, device="cpu")
    model.learn(total_timesteps=given.steps)
    after = play(env, lambda obs, mask: model.predict(obs, action_masks=mask)[0], given.episodes)
    for name, (returns, lengths, _) in (("random", before), ("MaskablePPO", after)):
        print(f"{name}: reward {np.mean(returns):.4f} ± {np.std(returns):.4f}, depth {np.mean(lengths):.2f}")
    best = int(np.argmax(after[0]))
    print(f"best: {after[2][best]} with {after[0][best]:.4f}")


if __name__ == "__main__":
    main()

"""Every controller against random search at equal budget, over many seeds in one compiled program each.

    python scripts/compare_controllers.py [--seeds 100] [--budget 200] [--table trials.csv]

On the mock landscape of `blocks` with three blocks, or on a table of that space. Prints the mean
reward of the last 50 trials and the 95 % bootstrap interval of what it gains over random search. The exit
code is 1 if an interval is not above 0.
"""

import argparse
import sys
import time

import jax
import numpy as np

from jaxnas import controllers, evaluators, loop, rewards, spaces

# ε falls within the budget; everything else is a default.
SHORT = {"epsilon_total": 3 / 4, "memory": 512}
OPTIONS: dict[str, dict] = {
    "q_learning": SHORT,
    "double_q": SHORT,
    "sarsa": SHORT,
    "dqn": {"epsilon_trials": 3 / 4},
}


def last_50(name: str, space, evaluator, options: argparse.Namespace) -> np.ndarray:  # → [seeds]
    settings = {k: int(v * options.budget) if v == 3 / 4 else v for k, v in OPTIONS.get(name, {}).items()}
    controller = controllers.REGISTRY[name](space, batch_size=options.batch_size, **settings)
    search = loop.make(space, controller, evaluator, rewards.accuracy)
    rounds = options.budget // options.batch_size

    def reward(key):
        return loop.scan(search, search.init(key), rounds)[1].reward

    keys = jax.random.split(jax.random.key(0), options.seeds)
    run = jax.jit(lambda keys: jax.lax.map(reward, keys, batch_size=25))
    return np.asarray(run(keys)).reshape(options.seeds, -1)[:, -50:].mean(axis=1)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--table", help="a CSV file of that space; by default the mock, with noise 0.02")
    options = parser.parse_args()
    space = spaces.blocks(num_blocks=options.blocks)
    evaluator = (
        evaluators.table(space, path=options.table) if options.table else evaluators.mock(space, noise=0.02)
    )
    random, behind = last_50("random", space, evaluator, options), []
    print(f"{'random':12} {random.mean():.4f}", flush=True)
    for name in sorted(controllers.REGISTRY):
        if name == "random":
            continue
        began = time.perf_counter()
        mine = last_50(name, space, evaluator, options)
        drawn = np.random.default_rng(0).choice(mine - random, (10_000, options.seeds)).mean(axis=1)
        low, high = np.quantile(drawn, (0.025, 0.975))
        seconds = time.perf_counter() - began
        print(f"{name:12} {mine.mean():.4f}  gain {low:.4f} to {high:.4f}  {seconds:.0f} s", flush=True)
        behind += [name] if low <= 0 else []
    print(f"not above random: {', '.join(behind)}" if behind else "all above random")
    return int(bool(behind))


if __name__ == "__main__":
    sys.exit(main())

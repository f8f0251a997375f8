"""Does a search's controller beat its random twin? Ten seeds, one process.

    python scripts/digits_seeds.py [--seeds 10] [OVERRIDES …]

By default REINFORCE on digits. Prints the mean reward of the second half of the budget for both sides of
every seed. The exit code is 1 if the controller is ahead in fewer than nine tenths of the seeds.
"""

import argparse
import sys

import jax
import numpy as np

from jaxnas import config, controllers, loop


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="configs/digits_reinforce.toml")
    parser.add_argument("--seeds", type=int, default=10)
    options, overrides = parser.parse_known_args()
    settings = config.load(options.config, overrides)
    parts = config.build(settings)
    random = controllers.random(parts.space, batch_size=parts.controller.batch_size)
    rounds = settings.search.budget // parts.controller.batch_size
    wins = 0
    for seed in range(options.seeds):
        means = []
        for controller in (parts.controller, random):
            search = loop.make(parts.space, controller, parts.evaluator, parts.reward)
            _, records = loop.run(search, search.init(jax.random.key(seed)), rounds)
            means.append(float(np.nanmean(records.reward[rounds // 2 :])))
        wins += means[0] > means[1]
        print(f"seed {seed}  {settings.controller.name} {means[0]:.4f}  random {means[1]:.4f}", flush=True)
    print(f"{settings.controller.name} ahead in {wins} of {options.seeds} seeds")
    return int(wins < 0.9 * options.seeds)


if __name__ == "__main__":
    sys.exit(main())

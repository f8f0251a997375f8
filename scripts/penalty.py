"""What a penalty on size does to Q-learning and PPO: networks of MNIST-3 and CIFAR-5, with it and without.

    python scripts/penalty.py --mnist npz:mnist.npz --cifar folder:cifar10

Runs `jaxnas search` for both data sets, both controllers, with the reward accuracy and with accuracy less
β(δ·x + log x) of x parameters, a few seeds each; a search that is there is not run again. The searches are
configs/cnn_mdp_*.toml cut to the size of a CPU. Prints the last 50 trials of each: mean parameters and
accuracy, the spread of the accuracy, and what the penalty changes, with 95 % bootstrap intervals over
searches and trials.
"""

import argparse
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np

from jaxnas import report

LAST, BUDGET = 50, 304  # trials
SMALL = (
    f"--search.budget {BUDGET} --data.limit 600 --data.image-size 16 --trainer.epochs 2 "
    "--trainer.padding width "
    "--trainer.compile-gflops 1000 --space.image-size 16 --space.filters 8 16 32 --space.kernel 3 5 "
    "--space.pool 2,2 --space.dense 256 64 --space.depth 3"
)
CONTROLLERS = {
    "q_learning": "--controller.batch-size 4 --controller.epsilon-total 225 --controller.learning-rate 0.1",
    "ppo": "--controller.learning-rate 0.005",
}
REWARDS = {"accuracy": "", "penalised": "--reward.name accuracy_minus_log_params"}


def search(task: str, controller: str, reward: str, seed: int, source: str, folder: Path) -> Path:
    """The folder of one search, run to its end."""
    run = folder / f"{task}_{controller}_{reward}_{seed}"
    jaxnas = [sys.executable, "-m", "jaxnas"]
    if not run.exists():
        flags = f"{SMALL} {CONTROLLERS[controller]} {REWARDS[reward]}".split()
        config = Path(__file__).parent.parent / f"configs/cnn_mdp_{task}_{controller}.toml"
        where = ["--folder", str(folder), "--search.name", run.name, "--search.seed", str(seed)]
        command = [*jaxnas, "search", str(config), *where, "--data.source", source, *flags]
    elif len(report.read(run).trials["accuracy"]) >= BUDGET:
        return run
    else:
        command = [*jaxnas, "resume", str(run)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return run


def last(runs: list[Path], name: str) -> np.ndarray:  # → [searches, LAST]
    return np.stack([report.read(run).trials[name][-LAST:] for run in runs])


def resampled(values: np.ndarray, rng: np.random.Generator, n: int = 2000) -> np.ndarray:
    """[searches, trials] → n resamples: of the searches, then of each one's trials."""
    searches, trials = values.shape
    rows = rng.integers(0, searches, (n, searches, 1))
    return values[rows, rng.integers(0, trials, (n, searches, trials))].reshape(n, -1)


def interval(draws: np.ndarray, form: str) -> str:
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return f"{low:{form}} to {high:{form}}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mnist", default="mnist", help="data.source of the digits")
    parser.add_argument("--cifar", default="cifar10", help="data.source of the photographs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("checkpoints/penalty"), help="of the runs")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    sources = {"mnist3": options.mnist, "cifar5": options.cifar}
    for task, controller in itertools.product(sources, CONTROLLERS):
        found = {}
        for reward in REWARDS:
            runs = [
                search(task, controller, reward, seed, sources[task], options.folder)
                for seed in range(options.seeds)
            ]
            accuracy, params = last(runs, "accuracy"), last(runs, "params")
            rng = np.random.default_rng(0)  # accuracy and size of one trial are drawn together
            a = resampled(accuracy, rng)
            p = resampled(params, np.random.default_rng(0))
            found[reward] = np.nanmean(a, axis=1), np.nanmean(p, axis=1)
            print(
                f"{task} {controller:10} {reward:9}  accuracy {np.nanmean(accuracy):.4f} "
                f"({interval(found[reward][0], '.4f')}), std {np.nanstd(accuracy):.4f} "
                f"({interval(np.nanstd(a, axis=1), '.4f')}); params {np.nanmean(params):,.0f} "
                f"({interval(found[reward][1], ',.0f')}), median {np.nanmedian(params):,.0f}",
                flush=True,
            )
        (a, p), (a_penalised, p_penalised) = found.values()
        print(
            f"{task} {controller:10} penalty: {interval(p / p_penalised, '.1f')} times smaller, accuracy "
            f"{interval(a_penalised - a, '+.4f')}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

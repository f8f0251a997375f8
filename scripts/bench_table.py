"""Thousands of searches of a table in one program: episodes a second, beside a plain PyTorch loop.

    python scripts/bench_table.py nasbench201.csv.gz [--policy lstm] [--peer torch]

REINFORCE as NATS-Bench runs it (one architecture an episode, Adam, bias-corrected moving average of rewards
with decay 0.9 as baseline), 500 episodes a search, through the code of `jaxnas search --seeds`. Ours and the
peer's runs alternate, and the best of each counts. The exit code is 1 if a target is missed: free logits
280,000 episodes a second and 200 times the peer, an LSTM of 100 units 20 times the peer, compilation under
10 s. Without a table, one of the same size is made up.
"""

import argparse
import itertools
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from jaxnas import controllers, evaluators, loop, rewards, spaces
from jaxnas.evaluators.table import read
from jaxnas.runs import seeds

RATE, PEER, COMPILE = {"free_logits": 280_000, "lstm": 0}, {"free_logits": 200, "lstm": 20}, 10
T, A, UNITS = 6, 5, 100


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", nargs="?", type=Path, help="nasbench201.csv.gz")
    parser.add_argument("--accuracy", default="cifar10_valid_acc_12ep", help="its column")
    parser.add_argument("--policy", default="free_logits", choices=tuple(RATE))
    parser.add_argument("--seeds", type=int, help="searches (default: 1024, of an LSTM 128)")
    parser.add_argument("--episodes", type=int, default=500, help="of a search")
    parser.add_argument("--chunk", type=int, default=0, help="searches a program vectorizes; 0 derives it")
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--peer", choices=("torch",))
    parser.add_argument("--peer-episodes", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    options.seeds = options.seeds or {"free_logits": 1024, "lstm": 128}[options.policy]
    space = spaces.nasbench201()
    with tempfile.TemporaryDirectory() as folder:
        path = options.table or made_up(space, Path(folder) / "table.csv")
        evaluator = evaluators.table(space, path=str(path), accuracy=options.accuracy, percent=True)
        controller = controllers.reinforce(
            space,
            batch_size=1,
            policy=options.policy,
            units=UNITS,
            learning_rate=options.learning_rate,
        )
        search = loop.make(space, controller, evaluator, rewards.accuracy)
        chunk = options.chunk or seeds.chunk_of(search)
        plan = seeds.Plan(0, options.seeds, options.episodes, chunk)
        peer = torch_loop(space, read(space, Path(path))) if options.peer else None
        ours, theirs, compiling = [], [], []
        for repeat in range(options.repeats):
            rate, seconds = jaxnas_rate(Path(folder) / str(repeat), search, plan)
            ours.append(rate)
            compiling.append(seconds)
            if repeat == 0:
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
            line = f"jaxnas {rate:,.0f} episodes/s, compiled in {seconds:.1f} s"
            if peer is not None:
                theirs.append(peer(options))
                line += f"; PyTorch {theirs[-1]:,.0f} episodes/s"
            print(line, flush=True)
    what = f"{plan.seeds:,} searches of {plan.budget} episodes in blocks of {chunk}"
    print(f"{options.policy}: {what}; peak memory of the process {peak:,.0f} MB")
    return verdict(options, max(ours), max(theirs, default=0.0), min(compiling))


def verdict(options: argparse.Namespace, ours: float, theirs: float, compiling: float) -> int:
    targets = [("episodes/s", ours, RATE[options.policy])] if RATE[options.policy] else []
    targets += [("times PyTorch's", ours / theirs, PEER[options.policy])] if theirs else []
    met = [value >= least for _, value, least in targets] + [compiling < COMPILE]
    for (name, value, least), good in zip(targets, met, strict=False):
        print(f"{value:,.0f} {name}, at least {least:,}: {'met' if good else 'missed'}")
    print(f"compiled in {compiling:.1f} s, under {COMPILE}: {'met' if met[-1] else 'missed'}")
    return int(not all(met))


def jaxnas_rate(folder: Path, search: loop.Search, plan: seeds.Plan) -> tuple[float, float]:
    """Episodes a second once compiled, files included, and the seconds before."""
    folder.mkdir()
    told: list[float] = []
    began = time.perf_counter()
    seeds.execute(folder, search, plan, watch=lambda trials: told.append(time.perf_counter()))
    return plan.seeds * plan.budget / (time.perf_counter() - told[0]), told[0] - began


def made_up(space, path: Path) -> Path:
    """A table of the size of NAS-Bench-201's with random accuracies."""
    print("no table given: one of the same size is made up")
    archs = np.array(list(itertools.product(range(A), repeat=T)))
    percent = np.random.default_rng(0).uniform(10, 85, len(archs))
    rows = [f"{space.describe(arch)},{value:.4f}" for arch, value in zip(archs, percent, strict=True)]
    path.write_text("\n".join(["architecture,cifar10_valid_acc_12ep", *rows]) + "\n")
    return path


def torch_loop(space, table):
    """(options) → episodes a second of the same algorithm, one search, written plainly."""
    import torch  # pyright: ignore[reportMissingImports]

    archs, columns = table

    def accuracy_of(options):
        found = np.zeros(A**T)
        found[archs @ A ** np.arange(T)] = columns[options.accuracy] / 100
        return found

    class FreeLogits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = torch.nn.Parameter(1e-3 * torch.randn(T, A))

        def forward(self):
            policy = torch.distributions.Categorical(logits=self.logits)
            choices = policy.sample()
            return choices.numpy(), policy.log_prob(choices).sum()

    class LSTM(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = torch.nn.LSTMCell(UNITS, UNITS)
            self.embedding = torch.nn.Parameter(torch.empty(T, A, UNITS))
            self.kernel = torch.nn.Parameter(torch.empty(T, UNITS, A))
            self.bias = torch.nn.Parameter(torch.empty(T, A))
            for parameter in self.parameters():
                torch.nn.init.uniform_(parameter, -0.1, 0.1)

        def forward(self):
            hidden, memory, inputs = (torch.zeros(1, UNITS) for _ in range(3))
            choices, log_prob = np.zeros(T, int), 0.0
            for t in range(T):
                hidden, memory = self.cell(inputs, (hidden, memory))
                logits = (hidden @ self.kernel[t])[0] + self.bias[t]
                policy = torch.distributions.Categorical(logits=logits, validate_args=False)
                choice = policy.sample()
                log_prob = log_prob + policy.log_prob(choice)
                choices[t] = int(choice)
                inputs = self.embedding[t, choices[t]][None]
            return choices, log_prob

    def run(options, episodes: int) -> float:
        accuracy = accuracy_of(options)
        policy = FreeLogits() if options.policy == "free_logits" else LSTM()
        optimizer = torch.optim.Adam(policy.parameters(), lr=options.learning_rate, eps=1e-4, fused=True)
        weighted = weight = 0.0
        began = time.perf_counter()
        for _ in range(episodes):
            choices, log_prob = policy()
            reward = accuracy[choices @ A ** np.arange(T)]
            weighted, weight = 0.9 * weighted + 0.1 * reward, 0.9 * weight + 0.1
            loss = -log_prob * (reward - weighted / weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return episodes / (time.perf_counter() - began)

    run(argparse.Namespace(policy="free_logits", learning_rate=0.1, accuracy=next(iter(columns))), 5)

    def best(options: argparse.Namespace) -> float:
        """With one thread and with all of them, whichever is faster."""
        rates = []
        for threads in {1, torch.get_num_threads()}:
            torch.set_num_threads(threads)
            run(options, 10)
            rates.append(run(options, options.peer_episodes))
        return max(rates)

    return best


if __name__ == "__main__":
    sys.exit(main())

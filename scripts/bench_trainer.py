"""What the trainer's settings cost and gain on this machine; every figure of docs/benchmarks.md on them.

    python scripts/bench_trainer.py stopping   # a group of which half stops after 2 of 10 epochs
    python scripts/bench_trainer.py choices    # convolutions: tiles, patches, micro-batches, and without
    python scripts/bench_trainer.py lowerings  # convolutions by XLA and as matrix products, on a GPU say
    python scripts/bench_trainer.py levels     # XLA's optimization levels: compilation and training
    python scripts/bench_trainer.py padding    # what a compilation is worth in training
    python scripts/bench_trainer.py memory     # the process after 1,000 to 10,000 children

Images are synthetic: speed does not depend on pixels.
"""

import argparse
import itertools
import os
import platform
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import networks, spaces, training
from jaxnas.evaluators import trained
from jaxnas.networks.ops import convolution
from jaxnas.training import programs
from jaxnas.training.task import MULTICLASS
from jaxnas.types import Dataset, Evaluator, Split


def dataset(n: int, side: int, n_validation: int = 500, channels: int = 1) -> Dataset:
    rng = np.random.default_rng(0)

    def split(n: int) -> Split:
        labels = rng.integers(0, 10, n).astype(np.int32)
        images = rng.integers(0, 256, (n, side, side, channels), dtype=np.uint8)
        images[:, 0, 0, 0] = labels * 25
        return Split(images, labels)

    names = tuple(map(str, range(10)))
    return Dataset("synthetic", MULTICLASS, split(n), split(n_validation), None, names, None)


def evaluate(evaluator: Evaluator, arch: np.ndarray, seed: int = 0) -> tuple[dict[str, np.ndarray], float]:
    """A round's measures and its seconds."""
    keys = jax.random.split(jax.random.key(seed), len(arch))
    began = time.perf_counter()
    _, measures = evaluator.evaluate(keys, evaluator.init(jax.random.key(7)), arch)
    return measures, time.perf_counter() - began


def stopping(repeats: int) -> None:
    """One `lax.map` group of 8: half of it ends after 2 of 10 epochs, for its loss is not finite any more."""
    data, space = dataset(2560, 28), spaces.blocks(filters=(32,), kernel=(3,), dropout=(0.1,))
    network = networks.blocks(space, (28, 28, 1), 10)
    structure, planned = network.plan(np.zeros(3, np.int32))
    trainer = training.make(network, data, epochs=10, patience=1)
    rows = np.random.default_rng(0)
    orders = np.stack([rows.permutation(2560).reshape(20, 128) for _ in range(10)]).astype(np.int32)

    def fit(stop: jax.Array, key: jax.Array, knobs: Any, images: Any, labels: Any, seen: Any) -> Any:
        """`Trainer.fit` with a given number of epochs after which patience ends."""
        carry = trainer.begin(structure, key, knobs, seen)

        def epoch(at: tuple) -> tuple:
            order = jnp.asarray(orders)[at[0]]
            carry = trainer.advance(structure, key, knobs, at[1], images, labels, order)
            carry = trainer.close(structure, key, knobs, carry, seen)
            return at[0] + 1, carry._replace(stopped=carry.epoch >= stop)

        start = jnp.zeros((), jnp.int32), carry
        carry = jax.lax.while_loop(lambda at: trainer.live(at[1]), epoch, start)[1]
        return trainer.finish(structure, key, knobs, carry, seen)

    group = jax.jit(programs.population(fit, True))
    keys = jax.random.split(jax.random.key(0), 8)
    knobs = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 8), {"network": planned, **trainer.rates})
    shared = jax.tree.map(jnp.asarray, (*data.train, tuple(data.validation)))
    seconds: dict[str, list[float]] = {"all 10": [], "half 2": []}
    for number in range(repeats + 1):
        for name, stops in (("all 10", [10] * 8), ("half 2", [2, 10] * 4)):
            began = time.perf_counter()
            fitted = jax.block_until_ready(group((jnp.array(stops, jnp.int32), keys, knobs), shared))
            assert fitted.epochs.tolist() == stops
            if number:
                seconds[name].append(time.perf_counter() - began)
    full, half = (statistics.median(values) for values in seconds.values())
    print(
        f"8 children of 10 epochs {full:.2f} s; half of them of 2 epochs {half:.2f} s: "
        f"{half / full:.3f} (ideal 0.6)"
    )


def set_all(module: Any, constants: dict[str, int]) -> None:
    for name, value in constants.items():
        setattr(module, name, value)


def choices(repeats: int) -> None:
    """Children with each choice of the CPU taken back, alternating."""
    texts = (
        "C(32,3,1) - P(2,2) - C(64,3,1) - P(2,2) - FC(128) - SM()",
        "C(64,5,1) - C(64,3,1) - P(3,2) - C(128,3,1) - GAP()",
    )
    data = dataset(1280, 32, channels=3)
    space = spaces.metaqnn(filters=(32, 64, 128), dense=(128,), dense_anywhere=True)
    arch = np.stack([space.parse(text) for text in texts] * 2)
    variants: dict[str, tuple[dict, dict[str, int]]] = {
        "as it is": ({}, {}),
        "patches, no tiles": ({}, {"TILED_CHANNELS": 10**9}),
        "patches of whole batches": ({}, {"TILED_CHANNELS": 10**9, "MICRO_BATCH_BYTES": 2**40}),
        "tiles of whole batches": ({}, {"TILED_ROWS": 10**9}),
        "one program at a time": ({"workers": 1}, {}),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    network = networks.metaqnn(space, (32, 32, 3), 10)
    evaluators = {name: trained(network, data, epochs=1, **given) for name, (given, _) in variants.items()}
    for number in range(repeats + 1):
        for name, (_, constants) in variants.items():
            usual = {constant: getattr(convolution, constant) for constant in constants}
            set_all(convolution, constants)  # read where a program is traced, in the first turn
            took = evaluate(evaluators[name], arch)[1]
            set_all(convolution, usual)
            seconds[name] += [took] if number else []
    least = statistics.median(seconds["as it is"])
    for name, each in seconds.items():
        compiled = (evaluators[name].stats or dict)()["compile_seconds"]
        middle = statistics.median(each)
        print(f"{name}: {middle:.2f} s, {middle / least:.2f} times; compilation {compiled:.1f} s")


def lowerings(repeats: int) -> None:
    """Two children by each lowering and precision: a program's compilation, its training, and its bits."""
    children = (
        (5000, 32, "C(32,3,1) - C(32,3,1) - P(2,2) - C(64,3,1) - C(64,5,1) - P(2,2) - SM()"),
        (1280, 64, "C(64,5,1) - P(2,2) - C(256,3,1) - C(128,5,1) - P(2,2) - C(128,3,1) - P(2,2) - SM()"),
    )
    for images, side, text in children:
        data = dataset(images, side, channels=3)
        space = spaces.metaqnn(image_size=side, filters=(32, 64, 128, 256), kernel=(3, 5))
        arch = space.parse(text)[None]
        for lowering, precision in itertools.product(("xla", "gemm"), ("float32", "bfloat16")):
            network = networks.metaqnn(space, (side, side, 3), 10, lowering=lowering)
            evaluator = trained(network, data, epochs=5, batch_size=128, precision=precision)
            found = [evaluate(evaluator, arch)[0] for _ in range(repeats + 1)]
            seconds = statistics.median(float(each["train_seconds"][0]) for each in found[1:])
            compiled = (evaluator.stats or dict)()["compile_seconds"]
            same = len({each["loss"].tobytes() for each in found}) == 1
            print(
                f"{side} × {side}, {lowering}, {precision}: compile {compiled:.1f} s, train {seconds:.2f} s, "
                f"{'equal' if same else 'other'} bits each time",
                flush=True,
            )


def levels(repeats: int) -> None:
    """Each level's own programs, alternating."""
    data, space = dataset(2560, 28), spaces.blocks(filters=(64,), kernel=(3, 5), dropout=(0.1,))
    network = networks.blocks(space, (28, 28, 1), 10)
    arch = np.array([[0, 0, 0], [0, 1, 0]], np.int32)
    by_level = {n: trained(network, data, epochs=2, workers=1, xla_level=n) for n in (0, 1, 2, 3)}
    for evaluator in by_level.values():
        evaluate(evaluator, arch)
    seconds = {n: [evaluate(e, arch)[1] for _ in range(repeats)] for n, e in by_level.items()}
    for n, evaluator in by_level.items():
        compiled = (evaluator.stats or dict)()["compile_seconds"]
        print(
            f"level {n}: compile {compiled / 2:.2f} s a program, "
            f"train {statistics.median(seconds[n]) / 2:.2f} s a child"
        )


def padding(repeats: int) -> None:
    """Seconds of a compilation, operations of training a second, and a round of 24 with and without."""
    data = dataset(1280, 28)
    space = spaces.blocks(num_blocks=2, filters=(8, 12, 16, 24), kernel=(3, 5), dropout=(0.1,))
    network = networks.blocks(space, (28, 28, 1), 10)
    rng = np.random.default_rng(0)
    arch = np.stack([rng.integers(0, size, 24) for size in (4, 2, 1) * 2], axis=1).astype(np.int32)
    found = {}
    for kind in ("none", "width"):
        evaluator = trained(network, data, epochs=2, padding=kind)
        measures, seconds = evaluate(evaluator, arch)
        stats = (evaluator.stats or dict)()
        _, again = evaluate(evaluator, arch)
        found[kind] = seconds
        rate = np.nansum(3 * measures["flops"] * 2 * 1280) / np.nansum(measures["train_seconds"])
        each = stats["compile_seconds"] / stats["programs"]
        print(
            f"padding {kind}: {stats['programs']:.0f} programs, {each:.2f} s each; round {seconds:.1f} s, "
            f"then {again:.1f} s; {rate / 1e9:.1f} GFLOP/s a child; "
            f"a compilation is worth {each * rate / 1e9:.0f} GFLOP"
        )
    print(f"none / width = {found['none'] / found['width']:.2f} with compilation")


def memory(repeats: int) -> None:
    """Resident memory while children of many structures come and go."""
    data = dataset(64, 8, 16)
    space = spaces.blocks(num_blocks=2, filters=(1, 2, 3, 4), kernel=(1, 3), dropout=(0.1,))
    evaluator = trained(networks.blocks(space, (8, 8, 1), 10), data, epochs=1, batch_size=32)
    rng, children = np.random.default_rng(0), 0
    for number in range(100 * repeats):
        arch = np.stack([rng.integers(0, size, 100) for size in (4, 2, 1) * 2], axis=1).astype(np.int32)
        evaluate(evaluator, arch, number)
        children += len(arch)
        if children in (500, 1000, 2000, 5000) or children % 10_000 == 0:
            resident = (
                int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
            )
            stats = (evaluator.stats or dict)()
            print(
                f"{children:6} children, {stats['programs']:4.0f} programs: {resident:.0f} MiB resident",
                flush=True,
            )


def main() -> int:
    parts = {f.__name__: f for f in (stopping, choices, lowerings, levels, padding, memory)}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=parts)
    parser.add_argument("--repeats", type=int, default=0, help="0: 1 for memory and padding, else 5")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}")
    parts[options.part](options.repeats or (1 if options.part in ("memory", "padding") else 5))
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

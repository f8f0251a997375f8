"""One epoch of one child network, jaxnas against PyTorch, the two alternating in one run.

    pip install -e '.[peer]'
    python scripts/bench_child.py --source npz:mnist.npz

The child is RLMedNAS's largest: 5 × 5 convolution with 128 filters, ReLU, 2 × 2 max pooling, dropout, a
dense head; Adam, batches of 128. Both sides keep the images in memory as bytes, shuffle, normalize and
train on all cores. Prints every epoch and the medians; the exit code is 1 if jaxnas is the slower one.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import data, networks, spaces, training
from jaxnas.evaluators.trained import population
from jaxnas.types import Dataset

BATCH, RATE = 128, 1e-3


def jax_epoch(dataset: Dataset, filters: int, kernel: int) -> tuple[Callable[[int], float], float]:
    """An epoch as (epoch number → last loss is finite), and the seconds its compilation took."""
    space = spaces.blocks(filters=(filters,), kernel=(kernel,), dropout=(0.25,))
    network = networks.blocks(space, dataset.train.images.shape[1:], dataset.num_outputs)
    structure, knobs = network.plan(np.zeros(3, np.int32))
    trainer = training.make(network, dataset.task, None, batch_size=BATCH)
    rates = {"learning_rate": np.float32(RATE), "weight_decay": np.float32(0)}
    each = jax.tree.map(lambda x: jnp.asarray(x)[None], (jax.random.key(0), {"network": knobs, **rates}))
    images, labels = jnp.asarray(dataset.train.images), jnp.asarray(dataset.train.labels)
    n = len(images) // BATCH * BATCH
    order = jnp.asarray(np.random.default_rng(0).permutation(len(images))[:n].reshape(-1, BATCH), jnp.int32)
    carry = jax.jit(population(trainer, "begin", structure, True))(each, ())
    began = time.perf_counter()
    step = jax.jit(population(trainer, "advance", structure, True))
    advance = step.lower((*each, carry), (images, labels, order)).compile()
    compile_seconds = time.perf_counter() - began
    state = [carry]

    def epoch(_: int) -> float:
        state[0] = jax.block_until_ready(advance((*each, state[0]), (images, labels, order)))
        return float(state[0].finite[0])

    return epoch, compile_seconds


def torch_epoch(dataset: Dataset, filters: int, kernel: int) -> Callable[[int], float]:
    """The same epoch in PyTorch."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    height, width, channels = dataset.train.images.shape[1:]
    model = nn.Sequential(
        nn.Conv2d(channels, filters, kernel, padding=kernel // 2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(filters * (height // 2) * (width // 2), dataset.num_outputs),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    images = torch.from_numpy(dataset.train.images.transpose(0, 3, 1, 2).copy())
    labels = torch.from_numpy(dataset.train.labels.astype(np.int64))

    def epoch(_: int) -> float:
        for rows in torch.randperm(len(images)).split(BATCH):
            if len(rows) == BATCH:
                outputs = model((images[rows].float() / 255 - 0.5) / 0.5)
                loss = nn.functional.cross_entropy(outputs, labels[rows])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
        return float(torch.isfinite(loss))

    return epoch


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", default="mnist", help="data.source")
    parser.add_argument("--limit", type=int, default=12800)
    parser.add_argument("--filters", type=int, default=128)
    parser.add_argument("--kernel", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each side, after one to warm up")
    options = parser.parse_args()
    dataset = data.load(options.source, limit=options.limit)
    import torch  # pyright: ignore[reportMissingImports]

    ours, compile_seconds = jax_epoch(dataset, options.filters, options.kernel)
    sides = {"jaxnas": ours, "torch": torch_epoch(dataset, options.filters, options.kernel)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(options.epochs + 1):
        for name, epoch in sides.items():
            began = time.perf_counter()
            if not epoch(number):
                raise RuntimeError(f"{name}: the loss is not finite")
            if number:
                seconds[name].append(time.perf_counter() - began)
                print(f"epoch {number}  {name:6}  {seconds[name][-1]:.2f} s", flush=True)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    print(
        f"\n{len(dataset.train.images)} images, {options.filters} filters, kernel {options.kernel}; "
        f"{platform.machine()}, Python {platform.python_version()}, jax {jax.__version__}, "
        f"torch {torch.__version__} with {torch.get_num_threads()} threads"
    )
    for name, values in seconds.items():
        print(f"{name:6}  median {median[name]:.2f} s  ({min(values):.2f}–{max(values):.2f})")
    print(f"compilation {compile_seconds:.1f} s; torch / jaxnas = {median['torch'] / median['jaxnas']:.2f}")
    return int(median["jaxnas"] > median["torch"])


if __name__ == "__main__":
    sys.exit(main())

"""What a NASNet child costs: trace, lower, compile, and a training step; PyTorch's step beside it.

    python scripts/bench_nasnet.py                       # NASNet-A, cells N N R N R N, F = 32, batch 96
    python scripts/bench_nasnet.py --peer torch          # and the same network in PyTorch
    python scripts/bench_nasnet.py --stages 6            # six normal cells, whole and scanned
    python scripts/bench_nasnet.py --levels 1 --lowerings gemm --cell other

Images are synthetic, 32 × 32 × 3: speed does not depend on pixels. The step is the trainer's own: forward,
backward, SGD with momentum, in a compiled loop.
"""

import argparse
import os
import platform
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import networks, spaces, training
from jaxnas.spaces.layers import Block
from jaxnas.training.task import MULTICLASS
from jaxnas.types import Dataset, Split

CELLS = {
    # Figure 4 of the paper.
    "nasnet_a": "normal: add(sep5(h),sep3(h-1)) add(sep5(h-1),sep3(h-1)) add(avg3(h),identity(h-1)) "
    "add(avg3(h-1),avg3(h-1)) add(sep3(h),identity(h)) "
    "reduction: add(sep5(h),sep7(h-1)) add(max3(h),sep7(h-1)) add(avg3(h),sep5(h-1)) "
    "add(identity(b2),avg3(b1)) add(sep3(b1),max3(h))",
    # Large windows, and what NASNet-A has none of.
    "other": "normal: add(sep7(h),max7(h-1)) add(conv1x7(h),dil3(h-1)) add(max5(b1),conv3(h)) "
    "cat(conv1x3(h),identity(b3)) add(sep7(b2),conv1(h-1)) "
    "reduction: add(sep7(h),max5(h-1)) cat(conv3(h),dil3(h-1)) add(sep5(b2),conv1(b1)) "
    "add(max7(h),conv1x7(b3)) add(sep7(h-1),avg3(b4))",
}
RECIPE = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4}


def measure(structure: Any, lowering: str, level: int | None, batch: int, steps: int) -> dict[str, float]:
    """Seconds of each stage, and of a step: the median of three runs of `steps`."""
    jax.clear_caches()
    space = spaces.nasnet()
    network = networks.nasnet(space, (32, 32, 3), 10, lowering=lowering)
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (batch * steps, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, batch * steps).astype(np.int32)
    train, names = Split(inputs, labels), tuple(map(str, range(10)))
    dataset = Dataset("noise", MULTICLASS, train, train, None, names, None)
    trainer = training.make(network, dataset, batch_size=batch, **RECIPE)
    key, knobs = jax.random.key(0), jax.tree.map(jnp.asarray, {"network": {}, **trainer.rates})
    seen = jnp.zeros((batch, 32, 32, 3), jnp.uint8), jnp.zeros(batch, jnp.int32)
    carry = jax.jit(lambda: trainer.begin(structure, key, knobs, seen))()
    order = jnp.arange(batch * steps, dtype=jnp.int32).reshape(steps, batch)
    advance = jax.jit(lambda *given: trainer.advance(structure, key, knobs, *given))
    given = carry, jnp.asarray(inputs), jnp.asarray(labels), order
    at = [time.perf_counter()]
    traced = advance.trace(*given)
    at.append(time.perf_counter())
    lowered = traced.lower()
    at.append(time.perf_counter())
    options: Any = None if level is None else {"xla_backend_optimization_level": level}
    program = lowered.compile(compiler_options=options)
    at.append(time.perf_counter())
    jax.block_until_ready(program(*given))
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        after = jax.block_until_ready(program(*given))
        seconds.append((time.perf_counter() - began) / steps)
    assert bool(after.finite)
    memory = program.memory_analysis()
    found = dict(zip(("trace", "lower", "compile"), np.diff(at).tolist(), strict=True))
    found |= {"total": sum(found.values()), "step": statistics.median(seconds)}
    return found | {"gb": memory.temp_size_in_bytes / 1e9 if memory else float("nan")}


def torch_step(structure: Any, batch: int, steps: int, channels_last: bool) -> float:
    """Seconds a step of the same network in PyTorch."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]
    from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

    def conv_norm(before: int, after: int, k: int = 1, stride: int = 1) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(before, after, k, stride, k // 2, bias=False), nn.BatchNorm2d(after))

    def separable(before: int, after: int, k: int, stride: int) -> nn.Module:
        halves = []
        for C, step in ((before, stride), (after, 1)):
            depthwise = nn.Conv2d(C, C, k, step, k // 2, groups=C, bias=False)
            halves += [nn.ReLU(), depthwise, *conv_norm(C, after)]
        return nn.Sequential(*halves)

    class Cell(nn.Module):
        def __init__(
            self, blocks: tuple[Block, ...], C: int, C_before: int, halved: bool, F_: int, stride: int
        ):
            super().__init__()
            self.blocks, self.halved = blocks, halved
            self.match = nn.Sequential(nn.ReLU(), conv_norm(C, F_)) if C != F_ else nn.Identity()
            if halved:
                self.even, self.odd = conv_norm(C_before, F_ // 2, 1, 2), conv_norm(C_before, F_ // 2, 1, 2)
            else:
                self.before = (
                    nn.Sequential(nn.ReLU(), conv_norm(C_before, F_)) if C_before != F_ else nn.Identity()
                )
            self.operations = nn.ModuleList(
                self.operation(op, F_, stride if source < 2 else 1)
                for block in blocks
                for source, op in zip(block.inputs, block.operations, strict=True)
            )
            used = {source for block in blocks for source in block.inputs}
            self.unused = [i for i in range(2, 2 + len(blocks)) if i not in used]

        def operation(self, name: str, F_: int, stride: int) -> nn.Module:
            if name == "identity":
                return (
                    nn.Identity() if stride == 1 else nn.Sequential(nn.ReLU(), conv_norm(F_, F_, 1, stride))
                )
            kind, k = name[:-1], int(name[-1])
            if kind == "sep":
                return separable(F_, F_, k, stride)
            if kind == "avg":
                return nn.AvgPool2d(k, stride, k // 2, count_include_pad=False)
            assert kind == "max", f"--peer torch has no {name}"
            return nn.MaxPool2d(k, stride, k // 2)

        def forward(self, h, before):
            if self.halved:
                x = F.relu(before)
                matched = torch.cat([self.even(x), self.odd(F.pad(x[:, :, 1:, 1:], (0, 1, 0, 1)))], 1)
            else:
                matched = self.before(before)
            states = [self.match(h), matched]
            for b, block in enumerate(self.blocks):
                sources = block.inputs
                x, y = (self.operations[2 * b + i](states[at]) for i, at in enumerate(sources))
                states.append(x + y if block.combine == "add" else torch.cat([x, y], 1))
            return torch.cat([states[i] for i in self.unused], 1)

    class Child(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, F_ = conv_norm(3, 3 * structure.filters, 3), structure.filters
            cells, C, C_before, halved = [], 3 * F_, 3 * F_, False
            for stage, count in enumerate(structure.stages):
                F_ *= 2 if stage else 1
                for stride in (2,) * bool(stage) + (1,) * count:
                    blocks = structure.normal if stride == 1 else structure.reduction
                    cells.append(Cell(blocks, C, C_before, halved, F_, stride))
                    C, C_before, halved = len(cells[-1].unused) * F_, C, stride == 2
            self.cells, self.head = nn.ModuleList(cells), nn.Linear(C, 10)

        def forward(self, x):
            h = before = self.stem(x)
            for cell in self.cells:
                h, before = cell(h, before), h
            return self.head(F.relu(h).mean((2, 3)))

    layout = torch.channels_last if channels_last else torch.contiguous_format
    child = Child().to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(child.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, foreach=True)
    images = torch.randn(batch, 3, 32, 32).to(memory_format=layout)
    labels = torch.arange(batch) % 10
    seconds = []
    for _ in range(steps + 1):
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(child(images), labels).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", type=int, nargs="+", default=[2, 1, 1], help="normal cells of each stage")
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--steps", type=int, default=3, help="a run")
    parser.add_argument("--cell", choices=CELLS, default="nasnet_a")
    parser.add_argument("--lowerings", nargs="+", default=["gemm", "xla"])
    parser.add_argument(
        "--levels", nargs="+", default=["none", "0", "1", "2", "3"], help="XLA's; none: its own"
    )
    parser.add_argument("--peer", choices=["torch"])
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__}, {jax.default_backend()}")
    shape = " R ".join(" ".join("N" * count) for count in options.stages)
    print(f"{options.cell}: {shape}, F = {options.filters}, batch {options.batch}; seconds\n")
    space = spaces.nasnet()
    structure, _ = networks.nasnet(space, (32, 32, 3), 10).plan(space.parse(CELLS[options.cell]))
    structure = structure._replace(stages=tuple(options.stages), filters=options.filters)
    assert structure.normal == space.layers(space.parse(CELLS[options.cell]))[0].blocks
    repeats = max(options.stages) > 3
    print("| lowering | XLA level | cells | trace | lower | compile | total | step | GB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for lowering in options.lowerings:
        for level in options.levels:
            for scan in (False, True) if repeats else (False,):
                given = structure._replace(scan=scan), lowering, None if level == "none" else int(level)
                found = measure(*given, options.batch, options.steps)
                row = " | ".join(f"{value:.2f}" for value in found.values())
                print(f"| {lowering} | {level} | {'scanned' if scan else 'whole'} | {row} |", flush=True)
    if options.peer:
        for channels_last in (False, True):
            step = torch_step(structure, options.batch, options.steps, channels_last)
            layout = "channels-last" if channels_last else "contiguous"
            print(f"| PyTorch, {layout} | | | | | | | {step:.2f} | |", flush=True)


if __name__ == "__main__":
    main()

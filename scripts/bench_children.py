"""Children per hour, jaxnas against PyTorch: trained in turn on the same data, by a process of each.

    pip install -e '.[peer]'
    python scripts/bench_children.py --family a --repeats 3

Family a: the structures of RLMedNAS (one block; 16 to 128 filters × 3, 5) on 28 × 28 × 1; the 24 children are
its 24 architectures. Family b: four networks as MetaQNN samples them, on 32 × 32 × 3; 16 children. A child is
trained (Adam, batches of 128) and measured on the validation images. The children come in rounds with one of
every structure, as a search asks for them; within a round the sides run one after the other, the other one
first each time. jaxnas runs through its evaluator with default settings and an empty program cache; PyTorch
with fused Adam, images in memory as bytes, and the memory format that is faster for the structure, found
beforehand outside the clock. Prints a table; the exit code is 1 if a target is missed.
"""

# ruff: noqa: D102

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BATCH, RATE = 128, 1e-3


class Family(NamedTuple):
    """What is trained, and what is asked of the comparison on two CPU cores."""

    image_shape: tuple[int, int, int]
    structures: dict[str, tuple[tuple, ...]]  # layers: (conv, filters, kernel), (pool, window, stride), …
    children: int
    rounds: int
    train: int  # images
    validation: int
    targets: dict[str, tuple[float, float]]  # torch / jaxnas: least median, least of any run


def conv(filters: int, kernel: int) -> tuple:
    return ("conv", filters, kernel)


def family_b(python: str) -> dict[str, tuple[float, float]]:
    new = tuple(map(int, python.split(".")[:2])) >= (3, 12)
    return {"steady": (1.3, 0.0), "cold": (1.0, 0.0)} if new else {"steady": (1.0, 0.0)}


P22, P32 = ("pool", 2, 2), ("pool", 3, 2)
FAMILIES = {
    "a": Family(
        (28, 28, 1),
        {f"C({f},{k}) P(2,2)": (conv(f, k), P22) for f in (16, 32, 64, 128) for k in (3, 5)},
        24, 3, 12_800, 6_400, {"cold": (3.0, 2.7)},
    ),
    "b": Family(
        (32, 32, 3),
        {
            "C(32,3) P(2,2) C(64,3) P(2,2) FC(128)":
                (conv(32, 3), P22, conv(64, 3), P22, ("dense", 128)),
            "C(64,3) P(2,2) C(128,3) P(2,2) FC(128)":
                (conv(64, 3), P22, conv(128, 3), P22, ("dense", 128)),
            "C(64,5) C(64,3) P(3,2) C(128,3) GAP":
                (conv(64, 5), conv(64, 3), P32, conv(128, 3), ("global_pool",)),
            "C(128,1) C(64,3) P(2,2) C(64,3) C(128,3) P(2,2) FC(256)":
                (conv(128, 1), conv(64, 3), P22, conv(64, 3), conv(128, 3), P22, ("dense", 256)),
        },
        16, 4, 5_000, 1_000, family_b(platform.python_version()),
    ),
}  # fmt: skip
DROPOUT = (0.1, 0.25, 0.5)  # of family a


def flops(family: Family, layers: tuple[tuple, ...], outputs: int) -> tuple[float, float]:
    """Floating-point operations of matrix products an image: a training step's, a prediction's."""
    height, width, channels = family.image_shape
    features, products = height * width * channels, []
    for kind, *sizes in (*layers, ("dense", outputs)):
        if kind == "conv":
            filters, kernel = sizes
            products.append(2 * height * width * kernel**2 * channels * filters)
            channels = filters
        elif kind == "pool":
            height, width = ((n - sizes[0]) // sizes[1] + 1 for n in (height, width))
        elif kind == "global_pool":
            height = width = 1
        else:
            products.append(2 * features * sizes[0])
            height, width, channels = 1, 1, sizes[0]
        features = height * width * channels
    return 3 * sum(products) - products[0], sum(products)  # the images need no gradient


# ---------------------------------------------------------------------------------------------------
# Workers: a process each, which answers a line of JSON with a line of JSON.
# ---------------------------------------------------------------------------------------------------


def peak_bytes() -> int:
    """The most memory this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class JaxnasSide:
    """Trains children through the evaluator that searches use."""

    def __init__(self, family: Family, options: argparse.Namespace, arrays: dict[str, np.ndarray]):
        from jaxnas.runs import provenance

        provenance.prepare(cpu_devices=1, deterministic=False)
        import jax

        from jaxnas import networks, spaces
        from jaxnas.evaluators.trained import trained
        from jaxnas.networks import chain
        from jaxnas.networks.ops.convolution import resolve_lowering
        from jaxnas.training.task import MULTICLASS
        from jaxnas.types import Dataset, Network, Split

        classes = tuple(map(str, range(options.outputs)))
        train, validation = (Split(arrays[f"{s}_images"], arrays[f"{s}_labels"]) for s in ("train", "val"))
        dataset = Dataset("bench", MULTICLASS, train, validation, None, classes, None)
        lowering = resolve_lowering(options.lowering)
        if options.family == "a":
            space = spaces.blocks()
            self.archs = [
                space.parse(f"{layers} D({rate}) SM") for rate in DROPOUT for layers in family.structures
            ]
            network = networks.blocks(space, family.image_shape, options.outputs, lowering=lowering)
        else:
            structures = [
                chain.ChainStructure(
                    family.image_shape,
                    tuple(part(layer) for layer in layers),
                    options.outputs,
                )
                for layers in family.structures.values()
            ]
            self.archs = [np.array([i], np.int32) for i in range(len(structures))]
            network = Network(
                plan=lambda arch: (structures[int(arch[0])], {}),
                init=chain.init,
                apply=lambda *arguments: chain.apply(*arguments, lowering=lowering),
            )
        given: dict[str, Any] = {"epochs": options.epochs, "batch_size": BATCH, "learning_rate": RATE}
        given |= {"population": options.population, "precision": options.dtype}
        self.evaluator, self.key = trained(network, dataset, **given), jax.random.key(0)
        self.state, self.jax = self.evaluator.init(self.key), jax

    def about(self) -> dict[str, Any]:
        import jaxnas

        name = f"jaxnas {jaxnas.__version__}, jax {self.jax.__version__}, Python {platform.python_version()}"
        return {"versions": name, "device": str(self.jax.devices()[0].device_kind)}

    def matmul_flops(self, n: int, dtype: str) -> float:
        jax, jnp = self.jax, self.jax.numpy
        x = jnp.ones((n, n), dtype)
        product = jax.jit(lambda x: x @ x).lower(x).compile()
        return best_of(lambda: jax.block_until_ready(product(x)), 2 * n**3)

    def train(self, children: list[int]) -> dict[str, float]:
        keys = self.jax.vmap(lambda i: self.jax.random.fold_in(self.key, i))(np.array(children, np.uint32))
        archs = np.stack([self.archs[child % len(self.archs)] for child in children])
        _, measures = self.evaluator.evaluate(keys, self.state, archs)
        if measures["status"].any():
            raise RuntimeError(f"a child failed: {measures['status']}")
        stats = (self.evaluator.stats or dict)()
        return {
            "accuracy": float(measures["accuracy"].mean()),
            "compile_seconds": stats["compile_seconds"],
            "programs": stats["programs"],
        }

    def device_bytes(self) -> int:
        return (self.jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def part(layer: tuple) -> Any:
    """A layer as jaxnas has it."""
    from jaxnas.spaces.layers import Conv, Dense, GlobalPool, Pool

    kind, *sizes = layer
    return {"conv": Conv, "pool": Pool, "dense": Dense, "global_pool": GlobalPool}[kind](*sizes)


class TorchSide:
    """The same children in PyTorch, one after the other on all cores."""

    def __init__(self, family: Family, options: argparse.Namespace, arrays: dict[str, np.ndarray]):
        import torch  # pyright: ignore[reportMissingImports]

        self.torch, self.family, self.options = torch, family, options
        self.device = torch.device("cpu" if options.device == "cpu" else "cuda")
        self.data = {}  # by memory format: batches of NHWC images are channels-last without a copy
        for split in ("train", "val"):
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"].astype(np.int64)
            forms = {"last": images, "first": images.transpose(0, 3, 1, 2).copy(), "labels": labels}
            self.data[split] = {k: torch.from_numpy(v).to(self.device) for k, v in forms.items()}
        torch.backends.cudnn.benchmark = True
        self.specs = list(family.structures.values())
        self.format = [min(("first", "last"), key=lambda f, s=s: self.try_steps(s, f)) for s in self.specs]

    def about(self) -> dict[str, Any]:
        torch = self.torch
        on_cpu = self.device.type == "cpu"
        name = f"torch {torch.__version__}, Python {platform.python_version()}"
        return {
            "versions": name + (f", {torch.get_num_threads()} threads" if on_cpu else ""),
            "device": platform.machine() if on_cpu else torch.cuda.get_device_name(),
            "memory_formats": dict(zip(self.family.structures, self.format, strict=True)),
        }

    def matmul_flops(self, n: int, dtype: str) -> float:
        x = self.torch.ones((n, n), dtype=getattr(self.torch, dtype), device=self.device)

        def product() -> None:
            self.torch.matmul(x, x)
            self.wait()

        return best_of(product, 2 * n**3)

    def wait(self) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def model(self, spec: tuple, rate: float, form: str) -> Any:
        nn = self.torch.nn
        height, width, channels = self.family.image_shape
        layers: list[Any] = []
        for i, (kind, *sizes) in enumerate(spec):
            if kind == "conv":
                filters, kernel = sizes
                layers.append(nn.Conv2d(channels, filters, kernel, padding=kernel // 2))
                channels = filters
                if i + 1 == len(spec) or spec[i + 1][0] != "pool":
                    layers.append(nn.ReLU(inplace=True))
            elif kind == "pool":  # ReLU behind the pool is the same, on fewer elements
                layers += [nn.MaxPool2d(*sizes), nn.ReLU(inplace=True)]
                height, width = ((n - sizes[0]) // sizes[1] + 1 for n in (height, width))
            elif kind == "global_pool":
                layers.append(nn.AdaptiveAvgPool2d(1))
                height = width = 1
            else:
                layers += [nn.Flatten(), nn.Linear(channels * height * width, *sizes), nn.ReLU(inplace=True)]
                height, width, channels = 1, 1, sizes[0]
        if rate:
            layers.append(nn.Dropout(rate))
        layers += [nn.Flatten(), nn.Linear(channels * height * width, self.options.outputs)]
        model = nn.Sequential(*layers).to(self.device)
        return model.to(memory_format=self.torch.channels_last) if form == "last" else model

    def batch(self, split: str, form: str, rows: Any) -> Any:
        x = self.data[split][form][rows]
        x = x.permute(0, 3, 1, 2) if form == "last" else x
        return x.float().div_(255 / 2).sub_(1)

    def precision(self) -> Any:
        if self.options.dtype == "float32":
            return contextlib.nullcontext()
        return self.torch.autocast(self.device.type, dtype=getattr(self.torch, self.options.dtype))

    def train_steps(self, model: Any, optimizer: Any, form: str, batches: Any) -> None:
        labels, loss_of = self.data["train"]["labels"], self.torch.nn.functional.cross_entropy
        for rows in batches:
            with self.precision():
                loss = loss_of(model(self.batch("train", form, rows)), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    def epoch(self) -> Any:
        n = len(self.data["train"]["labels"])
        return self.torch.randperm(n, device=self.device)[: n // BATCH * BATCH].split(BATCH)

    def fitted(self, model: Any) -> Any:
        return self.torch.optim.Adam(model.parameters(), lr=RATE, fused=True)

    def try_steps(self, spec: tuple, form: str) -> float:
        """Seconds that a few training steps take."""
        model = self.model(spec, 0.25, form)
        optimizer, batches = self.fitted(model), self.epoch()
        self.train_steps(model, optimizer, form, batches[:2])
        self.wait()
        began = time.perf_counter()
        self.train_steps(model, optimizer, form, batches[:6])
        self.wait()
        return time.perf_counter() - began

    def train(self, children: list[int]) -> dict[str, float]:
        torch, accuracies = self.torch, []
        for child in children:
            number = child % len(self.specs)
            rate = DROPOUT[child // len(self.specs) % 3] if self.options.family == "a" else 0.0
            torch.manual_seed(child)
            form = self.format[number]
            model = self.model(self.specs[number], rate, form)
            optimizer = self.fitted(model)
            for _ in range(self.options.epochs):
                self.train_steps(model, optimizer, form, self.epoch())
            model.eval()
            labels = self.data["val"]["labels"]
            with torch.inference_mode(), self.precision():
                found = torch.cat(
                    [
                        model(self.batch("val", form, rows)).argmax(1)
                        for rows in torch.arange(len(labels), device=self.device).split(BATCH)
                    ]
                )
                accuracies.append((found == labels).float().mean())
        return {"accuracy": float(torch.stack(accuracies).mean())}

    def device_bytes(self) -> int:
        return self.torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0


def best_of(call: Any, operations: float) -> float:
    """Operations a second, at best."""
    call()
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return operations / min(seconds)


SIDES = {"jaxnas": JaxnasSide, "torch": TorchSide}


def work(side: str, options: argparse.Namespace) -> int:
    """The loop of a worker: commands come in on stdin, answers go to stdout."""
    answers, sys.stdout = sys.stdout, sys.stderr
    with np.load(options.data) as file:
        arrays = dict(file)
    worker = SIDES[side](FAMILIES[options.family], options, arrays)
    for line in sys.stdin:
        command = json.loads(line)
        began = time.perf_counter()
        if "train" in command:
            answer = worker.train(command["train"])
            answer["seconds"] = time.perf_counter() - began
        elif "matmul" in command:
            answer = {"flops": worker.matmul_flops(command["matmul"], options.dtype)}
        else:
            answer = worker.about()
        answer |= {"peak_bytes": peak_bytes(), "device_bytes": worker.device_bytes()}
        print(json.dumps(answer), file=answers, flush=True)
    return 0


class Worker:
    """A side's process."""

    def __init__(self, side: str, options: argparse.Namespace, folder: Path):
        self.side = side
        python = sys.executable if side == "jaxnas" else options.peer_python
        given = {"family": options.family, "data": str(folder / "data.npz"), "outputs": options.outputs}
        names = ("epochs", "device", "population", "lowering", "dtype")
        given |= {name: getattr(options, name) for name in names}
        cache = tempfile.mkdtemp(dir=folder)
        settings: dict[str, str] = {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        if side == "jaxnas":
            settings["JAX_PLATFORMS"] = "cuda" if options.device == "gpu" else options.device
        self.process = subprocess.Popen(
            [python, __file__, "--worker", side, "--given", json.dumps(given)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings},
        )  # fmt: skip
        self.about = self.ask({})

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the worker of {self.side} ended with exit code {self.process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


# ---------------------------------------------------------------------------------------------------
# The comparison
# ---------------------------------------------------------------------------------------------------


def prepare_data(family: Family, options: argparse.Namespace, folder: Path) -> int:
    """Writes the images for both sides; the number of classes."""
    sizes = {"train": options.train or family.train, "val": options.validation or family.validation}
    arrays: dict[str, np.ndarray] = {}
    if options.source:
        from jaxnas import data

        dataset = data.load(options.source)
        if dataset.task.name != "multiclass" or dataset.train.inputs.shape[1:] != family.image_shape:
            raise SystemExit(
                f"--source: family {options.family} takes classes of images {family.image_shape}"
            )
        outputs = dataset.num_outputs
        for name, split in (("train", dataset.train), ("val", dataset.validation)):
            arrays[f"{name}_images"], arrays[f"{name}_labels"] = (x[: sizes[name]] for x in split)
    else:
        rng, outputs = np.random.default_rng(0), 10
        for name, size in sizes.items():
            labels = rng.integers(0, outputs, size)
            levels = 30 + 20 * labels[:, None, None, None]
            pixels = rng.normal(levels, 30, (size, *family.image_shape))
            arrays[f"{name}_images"] = np.clip(pixels, 0, 255).astype(np.uint8)
            arrays[f"{name}_labels"] = labels.astype(np.int32)
    np.savez(folder / "data.npz", **arrays)  # pyright: ignore[reportArgumentType]
    return outputs


def run(number: int, family: Family, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All children once on each side, by fresh workers."""
    structures = len(family.structures)
    children, rounds = options.children or family.children, options.rounds or family.rounds
    if children % (structures * rounds):
        raise SystemExit(f"--children: it takes a multiple of {structures} structures × {rounds} rounds")
    portions = [list(map(int, part)) for part in np.array_split(np.arange(children), rounds)]
    sides = ("jaxnas",) if options.peer == "none" else ("torch", "jaxnas")
    workers = {side: Worker(side, options, folder) for side in sides}
    found: dict[str, Any] = {
        side: {"about": worker.about, "seconds": [], "accuracy": []} for side, worker in workers.items()
    }
    for i, portion in enumerate(portions):
        for side in sides if i % 2 == 0 else sides[::-1]:
            answer = workers[side].ask({"train": portion})
            found[side]["seconds"].append(answer["seconds"])
            found[side]["accuracy"].append(answer["accuracy"])
            found[side] |= {k: v for k, v in answer.items() if k not in ("seconds", "accuracy")}
            print(
                f"family {options.family}  run {number + 1}  round {i + 1}/{rounds}  {side:6}  "
                f"{len(portion)} children in {answer['seconds']:.1f} s, accuracy {answer['accuracy']:.3f}",
                flush=True,
            )
    work = 0.0
    for child in range(children):
        layers = list(family.structures.values())[child % structures]
        step, prediction = flops(family, layers, options.outputs)
        train, validation = options.train or family.train, options.validation or family.validation
        work += step * (train // BATCH * BATCH) * options.epochs + prediction * validation
    for side, worker in workers.items():
        one = found[side]
        size = 2048 if options.device == "cpu" else 8192
        one["matmul_flops"] = worker.ask({"matmul": size})["flops"]
        worker.close()
        one["cold_seconds"] = sum(one["seconds"])
        # The first round holds the compilation: the others stand for all.
        later, count = one["seconds"][1:] or one["seconds"], len(portions[1:]) or 1
        one["steady_seconds"] = sum(later) * len(portions) / count
        one["flops"] = work / one["steady_seconds"]
    found["ratio"] = {}
    if len(sides) == 2:
        for kind in ("cold", "steady"):
            name = f"{kind}_seconds"
            found["ratio"][kind] = found["torch"][name] / found["jaxnas"][name]
    return found


def span(values: list[float], form: str = ".1f") -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def report(family: Family, runs: list[dict[str, Any]], options: argparse.Namespace) -> bool:
    """Prints the table of a family; whether its targets are met."""
    children = options.children or family.children
    print(f"\nfamily {options.family}: {children} children, {options.epochs} epochs, {len(runs)} runs")
    print("medians (min–max)".ljust(32) + "".join(side.rjust(26) for side in runs[0] if side in SIDES))
    rows = (
        ("with compilation, s", lambda one: one["cold_seconds"], ".1f"),
        ("steady state, s", lambda one: one["steady_seconds"], ".1f"),
        ("children/h, with compilation", lambda one: children * 3600 / one["cold_seconds"], ".0f"),
        ("children/h, steady state", lambda one: children * 3600 / one["steady_seconds"], ".0f"),
        ("share of matrix-product peak", lambda one: one["flops"] / one["matmul_flops"], ".2f"),
        ("peak memory, MB", lambda one: one["peak_bytes"] / 1e6, ".0f"),
        ("peak device memory, MB", lambda one: one["device_bytes"] / 1e6, ".0f"),
        ("compilation, thread-seconds", lambda one: one.get("compile_seconds", 0), ".1f"),
        ("accuracy", lambda one: statistics.mean(one["accuracy"]), ".3f"),
    )
    for title, value, form in rows:
        cells = [span([value(run[side]) for run in runs], form) for side in runs[0] if side in SIDES]
        print(title.ljust(32) + "".join(cell.rjust(26) for cell in cells))
    met = True
    for kind in runs[0]["ratio"]:
        ratios = [run["ratio"][kind] for run in runs]
        line = f"torch / jaxnas, {kind}: {span(ratios, '.2f')}"
        if kind in family.targets and options.device == "cpu":
            median, least = family.targets[kind]
            good = statistics.median(ratios) >= median and min(ratios) >= least
            met &= good
            line += (
                f"; target {median}"
                + (f", each {least}" if least else "")
                + (": met" if good else ": MISSED")
            )
        print(line)
    for side in SIDES:
        if side in runs[0]:
            print(f"{side}: {runs[0][side]['about']['versions']}, on {runs[0][side]['about']['device']}")
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", choices=(*FAMILIES, "all"), default="all")
    parser.add_argument("--source", default="", help="data.source of one family; synthetic images by default")
    parser.add_argument("--repeats", type=int, default=1, help="runs of everything, in fresh processes")
    parser.add_argument("--children", type=int, default=0, help="0 takes 24 for a, 16 for b")
    parser.add_argument(
        "--rounds", type=int, default=0, help="portions of the children; 0 takes 3 for a, 4 for b"
    )
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--train", type=int, default=0, help="images; 0 takes 12,800 for a, 5,000 for b")
    parser.add_argument("--validation", type=int, default=0, help="images; 0 takes 6,400 for a, 1,000 for b")
    parser.add_argument("--peer", choices=("torch", "none"), default="torch")
    parser.add_argument("--peer-python", default=sys.executable, help="the interpreter that has torch")
    parser.add_argument("--device", choices=("cpu", "gpu", "tpu"), default="cpu")
    parser.add_argument("--population", choices=("auto", "map", "vmap"), default="auto")
    parser.add_argument("--lowering", choices=("auto", "gemm", "xla"), default="auto")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--json", default="", help="write every figure to this file")
    parser.add_argument("--worker", choices=tuple(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--given", default="{}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options.worker, argparse.Namespace(**json.loads(options.given)))
    met, results = True, {}
    for name in FAMILIES if options.family == "all" else (options.family,):
        family, options.family = FAMILIES[name], name
        with tempfile.TemporaryDirectory() as folder:
            options.outputs = prepare_data(family, options, Path(folder))
            runs = [run(i, family, options, Path(folder)) for i in range(options.repeats)]
        met &= report(family, runs, options)
        results[name] = runs
    if options.json:
        about = {"machine": platform.platform(), "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d")}
        content = {**about, "command": sys.argv, "met": met, "families": results}
        Path(options.json).write_text(json.dumps(content, indent=1) + "\n")
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())

"""The files of `best/`: a trained network as a folder that runs without jaxnas.

architecture.json  metrics.json  weights.safetensors  validation.csv
model.stablehlo  predict.py  model.py  requirements.txt  README.md; if asked for, model.onnx
"""

import importlib.metadata
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.export import source, to_onnx
from jaxnas.runs import checkpoint
from jaxnas.types import Dataset, Network, PyTree

FORMAT = 1  # of the folder
FILES = (
    "architecture.json", "metrics.json", "weights.safetensors", "validation.csv", "model.stablehlo",
    "model.onnx", "predict.py", "model.py", "requirements.txt", "README.md", "__pycache__",
)  # fmt: skip
PLATFORMS = ("cpu", "cuda", "tpu")
ONNX_USE = """
`model.onnx` is the same network for ONNX runtimes (`pip install onnxruntime numpy`), in float32:

```python
import numpy, onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
(outputs,) = session.run(None, {{"images": numpy.zeros((1, {H}, {W}, {C}), numpy.uint8)}})
```
"""
PACKAGES = ("jax", "flax", "numpy", "flatbuffers", "safetensors", "pillow")


class Origin(NamedTuple):
    """Where the networks of a run come from: what all of their folders have in common."""

    network: Network  # by XLA's own convolutions, which every platform has and any batch size fits
    forward: Callable  # (structure, knobs, params, images uint8 [N,H,W,C]) → outputs [N, O]
    dataset: Dataset
    mean: float  # subtracted from pixels in 0–1
    std: float  # divides them then
    precision: str  # of activations
    data: dict[str, Any]  # the section of the configuration
    run: str  # its name


class Child(NamedTuple):
    """A trained network."""

    about: dict[str, Any]  # trial, space, architecture, arch, decisions, reward, measures
    params: PyTree
    outputs: np.ndarray | None  # [N, O] on the validation images, as they were measured
    tested: dict[str, float] | None = None  # measures on the test split


def files(origin: Origin, child: Child, onnx: bool = False) -> dict[str, bytes]:
    """The content of every file of the folder, of model.onnx if asked for.

    Raises:
      InputError: `flatbuffers`, which jax.export writes with, is not installed; or as `to_onnx.convert`.
    """
    dataset, (structure, knobs) = origin.dataset, origin.network.plan(np.asarray(child.about["arch"]))
    shape, measured = dataset.train.inputs.shape[1:], child.about["measures"]
    names = dataset.task.names
    about = {
        "format": FORMAT,
        **child.about,
        "input_shape": list(shape),  # height and width in pixels, channels
        "input": "uint8, 0–255",
        "preprocessing": {"scale": 255, "mean": origin.mean, "std": origin.std},
        "precision": origin.precision,
        "task": dataset.task.name,
        "classes": list(dataset.classes),
        "data": origin.data,
        "run": origin.run,
    }
    metrics = {
        "trial": child.about["trial"],
        "validation": {name: measured[name] for name in names if name in measured and name != "constant"},
        "test": child.tested,
        "params": measured.get("params"),
        "agreement": None,  # see `agreement`
    }
    facts = source.Facts(
        about["architecture"],
        shape,
        dataset.num_outputs,
        origin.mean,
        origin.std,
        origin.precision == "bfloat16",
    )
    model = source.model(structure, facts)
    call = predictor(origin.forward, structure, knobs, child.params)
    made = {
        "architecture.json": _json(about),
        "metrics.json": _json(metrics),
        "weights.safetensors": checkpoint.to_safetensors(child.params, {"trial": str(about["trial"])}),
        "model.stablehlo": stablehlo(call, shape),
        "predict.py": Path(__file__).with_name("predict.py").read_bytes(),
        "requirements.txt": requirements().encode(),
        "README.md": readme(about, metrics, model is not None, onnx).encode(),
    }
    if onnx:
        made["model.onnx"] = to_onnx.convert(call, shape, about["architecture"])
    if child.outputs is not None:
        made["validation.csv"] = _outputs(child.outputs)
    return made if model is None else {**made, "model.py": model.encode()}


def predictor(forward: Callable, structure: Any, knobs: PyTree, params: PyTree) -> Callable:
    """The network with its weights and preprocessing: uint8 [b, H, W, C] → float32 [b, O]."""
    own = jax.tree.map(jnp.asarray, (knobs, params))

    def call(images: jax.Array) -> jax.Array:
        return forward(structure, {"network": own[0]}, own[1], images)

    return call


def stablehlo(call: Callable, shape: tuple[int, ...]) -> bytes:
    """What `predictor` gives, for any b."""
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        raise InputError("best/: model.stablehlo needs flatbuffers; pip install flatbuffers") from None

    (b,) = jax.export.symbolic_shape("b")
    exported = jax.export.export(jax.jit(call), platforms=PLATFORMS)
    return bytes(exported(jax.ShapeDtypeStruct((b, *shape), jnp.uint8)).serialize())


def requirements() -> str:
    """The packages that the folder needs, in the versions that wrote it."""
    return "".join(f"{name}=={importlib.metadata.version(name)}\n" for name in PACKAGES)


def readme(about: dict[str, Any], metrics: dict[str, Any], has_model: bool, has_onnx: bool = False) -> str:
    """What is in the folder, where it comes from, how to use it and how good it is."""
    H, W, C = about["input_shape"]
    rows = [(split, metrics[split]) for split in ("validation", "test") if metrics[split]]
    measured = "\n".join(
        f"- {split}: "
        + ", ".join(f"{name} {value:.4f}" for name, value in found.items() if name != "constant")
        for split, found in rows
    )
    params = f"{metrics['params']:,.0f}" if metrics["params"] is not None else "?"
    of_model = (
        "\n- `model.py`: the network in plain Flax; `load` reads `weights.safetensors`" if has_model else ""
    )
    of_onnx = ONNX_USE.format(H=H, W=W, C=C) if has_onnx else ""
    return f"""# A network for {about["data"].get("source", "images")}

Found by jaxnas: trial {about["trial"]} of run `{about["run"]}`, {params} parameters, for images of
{H} × {W} × {C}.

    {about["architecture"]}

Measured:

{measured}

## Use

```sh
pip install -r requirements.txt
python predict.py IMAGE…
```

requirements.txt has the versions that wrote this folder; later ones of jax read `model.stablehlo` too.

- `model.stablehlo`: weights and preprocessing included, uint8 images [N, {H}, {W}, {C}] → outputs, for any N,
  on a CPU, CUDA or a TPU; `predict.py` shows how it is called{of_model}
- `architecture.json`: decisions, notation, classes, preprocessing
- `metrics.json`: what was measured; `validation.csv`: the outputs on the validation images, in their order
{of_onnx}"""


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _outputs(outputs: np.ndarray) -> bytes:
    text = io.StringIO()
    np.savetxt(text, outputs, fmt="%.9g", delimiter=",")  # enough for float32 to read back as it is
    return text.getvalue().encode()

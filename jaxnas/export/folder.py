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
from jaxnas.export import quality, source, to_onnx
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
(outputs,) = session.run(None, {{"images": numpy.zeros((1, {shape}), numpy.uint8)}})
```
"""
CLASSIFIER_USE = (
    """python -c 'import numpy, predict; print(predict.Classifier(".").outputs(numpy.load("x.npy")))'"""
)
PACKAGES = ("jax", "flax", "numpy", "flatbuffers", "safetensors", "pillow")


class Origin(NamedTuple):
    """Where the networks of a run come from: what all of their folders have in common."""

    network: Network  # by XLA's own convolutions, which every platform has and any batch size fits
    forward: Callable  # (structure, knobs, params, stored inputs [N, ...]) → outputs [N, O]
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
    outputs: np.ndarray | None  # [N, O] on the validation inputs, as they were measured
    tested: dict[str, float] | None = None  # measures on the test split


def files(origin: Origin, child: Child, onnx: bool = False) -> dict[str, bytes]:
    """The content of every file of the folder, of model.onnx if asked for.

    Raises:
      InputError: `flatbuffers`, which jax.export writes with, is not installed; or as `to_onnx.convert`.
    """
    dataset, (structure, knobs) = origin.dataset, origin.network.plan(np.asarray(child.about["arch"]))
    inputs, measured = dataset.train.inputs, child.about["measures"]
    found = quality.of(dataset, measured, child.outputs, child.tested)
    if onnx:
        require_images("--onnx", dataset.kind)
    of_pixels = dataset.kind == "image" and dataset.prepare is None
    about = {
        "format": FORMAT,
        **child.about,
        "kind": dataset.kind,
        "input_shape": list(inputs.shape[1:]),  # of images: height and width in pixels, channels
        "input": "uint8, 0–255" if inputs.dtype == np.uint8 else str(inputs.dtype),
        # null: a function of the data set's own, which model.stablehlo includes
        "preprocessing": {"scale": 255, "mean": origin.mean, "std": origin.std} if of_pixels else None,
        "precision": origin.precision,
        "task": dataset.task.name,
        "classes": list(dataset.classes),
        "temperature": found["calibration"]["temperature"] if found["calibration"] else 1.0,
        "data": origin.data,
        "run": origin.run,
    }
    metrics = {
        "trial": child.about["trial"],
        **found,
        "params": measured.get("params"),
        "agreement": None,  # see `agreement`
    }
    facts = source.Facts(
        about["architecture"],
        tuple(inputs.shape[1:]),
        dataset.num_outputs,
        origin.mean,
        origin.std,
        origin.precision == "bfloat16",
    )
    model = source.model(structure, facts) if of_pixels else None
    call = predictor(origin.forward, structure, knobs, child.params)
    content = {
        "architecture.json": _json(about),
        "metrics.json": _json(metrics),
        "weights.safetensors": checkpoint.to_safetensors(child.params, {"trial": str(about["trial"])}),
        "model.stablehlo": stablehlo(call, inputs.shape[1:], inputs.dtype),
        "predict.py": Path(__file__).with_name("predict.py").read_bytes(),
        "requirements.txt": requirements().encode(),
        "README.md": readme(about, metrics, model is not None, onnx).encode(),
    }
    if onnx:
        content["model.onnx"] = to_onnx.convert(call, inputs.shape[1:], about["architecture"])
    if child.outputs is not None:
        content["validation.csv"] = _outputs(child.outputs)
    return content if model is None else {**content, "model.py": model.encode()}


def predictor(forward: Callable, structure: Any, knobs: PyTree, params: PyTree) -> Callable:
    """The network with its weights and preprocessing: stored inputs [b, ...] → outputs float32 [b, O]."""
    knobs, params = jax.tree.map(jnp.asarray, (knobs, params))

    def call(inputs: jax.Array) -> jax.Array:
        return forward(structure, {"network": knobs}, params, inputs)

    return call


def require_images(what: str, kind: str) -> None:
    """Raise an InputError if data of that kind are no images, which `what` alone takes."""
    if kind != "image":
        raise InputError(f"{what}: it takes images; the network was trained on inputs of kind {kind!r}")


def stablehlo(call: Callable, shape: tuple[int, ...], dtype: Any = np.uint8) -> bytes:
    """What `predictor` gives, for any b."""
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        raise InputError("best/: model.stablehlo needs flatbuffers; pip install flatbuffers") from None

    (b,) = jax.export.symbolic_shape("b")
    exported = jax.export.export(jax.jit(call), platforms=PLATFORMS)
    return bytes(exported(jax.ShapeDtypeStruct((b, *shape), dtype)).serialize())


def requirements() -> str:
    """The packages that the folder needs, in the versions that wrote it."""
    return "".join(f"{name}=={importlib.metadata.version(name)}\n" for name in PACKAGES)


def readme(about: dict[str, Any], metrics: dict[str, Any], has_model: bool, has_onnx: bool = False) -> str:
    """What is in the folder, where it comes from, how to use it and how good it is."""
    shape = [str(extent) for extent in about["input_shape"]]
    of_images = about["kind"] == "image"
    stored = f"{about['input'].partition(',')[0]} [N, {', '.join(shape)}]"
    what = "images" if of_images else f"inputs of kind {about['kind']}"
    measured = "\n".join(quality.lines(metrics))
    params = f"{metrics['params']:,.0f}" if metrics["params"] is not None else "?"
    of_model = (
        "\n- `model.py`: the network in plain Flax; `load` reads `weights.safetensors`" if has_model else ""
    )
    of_onnx = ONNX_USE.format(shape=", ".join(shape)) if has_onnx else ""
    call = "python predict.py IMAGE…" if of_images else CLASSIFIER_USE
    return f"""# A network for {about["data"].get("source", "images")}

Found by jaxnas: trial {about["trial"]} of run `{about["run"]}`, {params} parameters, for {what} of
{" × ".join(shape)}.

    {about["architecture"]}

Measured:

{measured}

## Use

```sh
pip install -r requirements.txt
{call}
```

requirements.txt has the versions that wrote this folder; later ones of jax read `model.stablehlo` too.

- `model.stablehlo`: weights and preprocessing included, {stored} → outputs,
  for any N, on a CPU, CUDA or a TPU; `predict.py` shows how it is called{of_model}
- `architecture.json`: decisions, notation, classes, preprocessing, the temperature that logits are divided by
- `metrics.json`: what was measured; `validation.csv`: the outputs on the validation inputs, in their order
{of_onnx}"""


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _outputs(outputs: np.ndarray) -> bytes:
    text = io.StringIO()
    np.savetxt(text, outputs, fmt="%.9g", delimiter=",")  # enough for float32 to read back as it is
    return text.getvalue().encode()

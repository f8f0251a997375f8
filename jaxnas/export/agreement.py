"""Whether an exported network predicts what was measured: it is loaded in a fresh process, on the CPU."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.runs.files import write_atomic
from jaxnas.types import Task

LEAST = 0.999  # of the predictions
SECONDS = 600
BATCH = 256  # images at once by ONNX Runtime
FEW = 8  # images by its slow substitute
CODE = """
import sys
folder, inputs, outputs = sys.argv[1:]
sys.path.insert(0, folder)
import numpy, predict
numpy.save(outputs, predict.Classifier(folder).outputs(numpy.load(inputs)))
"""


def check(folder: Path, inputs: np.ndarray, task: Task) -> tuple[bool, str]:
    """Whether `folder` agrees with its validation.csv on `inputs`, and what a person is told.

    The share of predictions that agree is noted in the folder's metrics.json, of model.onnx too where it is.
    Nothing is raised: whatever goes wrong is what the person is told.
    """
    try:
        wanted = np.loadtxt(folder / "validation.csv", delimiter=",", ndmin=2)
        shares = {"agreement": float(np.mean(agree(task, outputs_of(folder, inputs), wanted)))}
        text = f"{shares['agreement']:.2%} of {len(inputs)} validation predictions are those of the search"
        text += ", in a fresh process"
        if (folder / "model.onnx").exists():
            outputs, runtime = onnx_outputs_of(folder, inputs)
            shares["onnx_agreement"] = float(np.mean(agree(task, outputs, wanted[: len(outputs)])))
            text += f"; {shares['onnx_agreement']:.2%} of {len(outputs)} those of model.onnx in {runtime}"
        metrics = json.loads((folder / "metrics.json").read_text("utf-8")) | shares
        write_atomic(folder / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    except (OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().rpartition("\n")[2]
        return False, f"{folder}: the exported network does not run: {reason}"
    return min(shares.values()) >= LEAST, f"{folder}: {text}"


def outputs_of(folder: Path, inputs: np.ndarray) -> np.ndarray:  # [N, ...] → [N, O]
    """What the folder's predict.py computes in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        input_file, output_file = Path(scratch, "inputs.npy"), Path(scratch, "outputs.npy")
        np.save(input_file, inputs)
        command = [sys.executable, "-c", CODE, str(folder.resolve()), str(input_file), str(output_file)]
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=SECONDS)
        return np.load(output_file)


def onnx_outputs_of(folder: Path, images: np.ndarray) -> tuple[np.ndarray, str]:
    """What the folder's model.onnx computes, and by what: ONNX Runtime; without it onnx, of a few images."""
    path = str(folder / "model.onnx")
    try:
        try:
            import onnxruntime
        except ImportError:
            from onnx.reference import ReferenceEvaluator

            reference: Any = ReferenceEvaluator(path)
            (outputs,) = reference.run(None, {"images": images[:FEW]})
            return outputs, "onnx's reference, without onnxruntime"
        session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        starts = range(0, len(images), BATCH)
        parts = [session.run(None, {"images": images[i : i + BATCH]})[0] for i in starts]
        return np.concatenate(parts), "onnxruntime"
    except Exception as error:  # either raises anything
        raise ValueError(f"model.onnx: {error}") from None


def agree(task: Task, outputs: np.ndarray, wanted: np.ndarray) -> np.ndarray:  # [N, O] twice → bool [N]
    """Where two outputs are one prediction; outputs of another shape are a ValueError."""
    if outputs.shape != wanted.shape:
        raise ValueError(f"outputs {list(outputs.shape)}, validation.csv has {list(wanted.shape)}")
    return task.agreement(outputs, wanted)

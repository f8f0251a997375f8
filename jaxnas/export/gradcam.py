"""Grad-CAM: where in an image a network finds its reasons.

Selvaraju, Cogswell, Das, Vedantam, Parikh & Batra 2017, "Grad-CAM: visual explanations from deep networks via
gradient-based localization", https://arxiv.org/abs/1610.02391. With A_k the k-th of the last feature maps, y
the score of a class and α_k = mean over pixels of ∂y/∂A_k: L = ReLU(Σ_k α_k A_k).
"""

import importlib.util
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.errors import InputError
from jaxnas.types import Task

BATCH = 64  # images at once


def model_of(folder: Path) -> Any:
    """The module of the folder's model.py, which is run for that.

    Raises:
      InputError: the folder has none: the network is of a kind from elsewhere.
    """
    path = folder / "model.py"
    if not path.exists():
        raise InputError(f"{folder}: no model.py, which --explain needs; `jaxnas export` writes it")
    spec = importlib.util.spec_from_file_location("model", path.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(folder: Path, module: Any) -> Any:
    """The folder's weights as its model.py takes them.

    Raises:
      InputError: they are missing or damaged.
    """
    try:
        return module.load()
    except Exception as error:  # whatever a module of the user's raises
        raise InputError(f"{folder}: weights.safetensors cannot be loaded ({error})") from None


def heatmaps(module: Any, variables: Any, images: np.ndarray, targets: np.ndarray, task: Task) -> np.ndarray:
    """L of every image for its class, as large as the image: float32 [N, H, W], at least 0.

    Args:
      module: of a model.py.
      variables: what its `load` gives, or others of those shapes.
      images: uint8 [N, H, W, C].
      targets: int [N], the class, label or target that is to be explained.
      task: of the network.
    """
    model = module.Model()

    def outputs_and_maps(change: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        given = variables if change is None else {**variables, "perturbations": {"maps": change}}
        outputs, seen = model.apply(given, x, mutable=["intermediates"])
        return outputs, seen["intermediates"]["maps"][0]

    @jax.jit
    def one_batch(images: jax.Array, targets: jax.Array) -> jax.Array:
        x = module.preprocess(images)
        _, maps = outputs_and_maps(None, x)

        def score(change: jax.Array) -> jax.Array:  # Σ over the images, which do not see each other
            outputs, _ = outputs_and_maps(change, x)
            return jnp.sum(task.evidence(outputs, targets))

        alpha = jax.grad(score)(jnp.zeros_like(maps)).mean(axis=(1, 2), keepdims=True)
        heat = jax.nn.relu((alpha * maps).sum(axis=-1)).astype(jnp.float32)
        return jax.image.resize(heat, images.shape[:3], "bilinear")

    parts = []
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        batch = jnp.asarray(images[rows]), jnp.asarray(targets[rows], jnp.int32)
        parts.append(np.asarray(one_batch(*batch)))
    return np.concatenate(parts)

"""Whether Grad-CAM of a network that tells leaves from ground points at the leaves.

    python scripts/gradcam_leaves.py checkpoints/metaqnn_leaves

Over validation images with a leaf that the network gets right: the share of a heat map's mass that lies on
the leaves, by the share of the image that they cover; the same with weights as they are drawn.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnas import data
from jaxnas.data import arrays, leaves
from jaxnas.export import explain, gradcam
from jaxnas.training.task import BINARY

LEAF = leaves.CLASSES.index("leaf")
MOST = 100  # images
UNTRAINED = 5  # draws of weights


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="a run on `leaves`, or its best/")
    folder, classifier = explain.open_folder(parser.parse_args().folder)
    images, masks = with_masks(classifier.about["data"])
    predicted = classifier.probabilities(classifier.outputs(images)).argmax(axis=1)
    right = np.flatnonzero(predicted == LEAF)[:MOST]
    images, masks = images[right], masks[right]
    module = gradcam.model_of(folder)
    x = module.preprocess(images[:1])
    drawn = [module.Model().init(jax.random.key(i), x) for i in range(UNTRAINED)]
    trained = on_leaves(module, module.load(), images, masks)
    untrained = np.mean([on_leaves(module, _weights(each), images, masks) for each in drawn])
    area = masks.mean()
    print(f"{len(images)} validation images with leaves, predicted right; leaves cover {area:.1%} of them")
    print(f"on leaves: {trained:.1%} of the heat, {trained / area:.2f} times their share of the area")
    times = trained / untrained
    print(f"untrained: {untrained:.1%}, mean of {UNTRAINED} draws; trained is {times:.2f} times that")


def with_masks(settings: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Validation images with a leaf [N, H, W, C], and where it is [N, H, W]."""
    if settings["source"] != "leaves":
        raise SystemExit(f"data.source: got {settings['source']!r}; it takes 'leaves'")
    dataset = data.load(**settings)
    drawn, labels, masks = leaves.generate(leaves.OPTIONS["count"], leaves.OPTIONS["size"])
    size, index = dataset.validation.inputs.shape[1], np.flatnonzero(labels == LEAF)
    drawn = arrays.render("leaves", arrays.Part(drawn, labels), index, size, "auto")
    shown = np.where(masks, np.uint8(255), np.uint8(0))[..., None]
    masks = arrays.render("masks", arrays.Part(shown, labels), index, size, "auto")[..., 0] > 127
    number = {image.tobytes(): i for i, image in enumerate(drawn)}
    images = dataset.validation.inputs[dataset.validation.labels == LEAF]
    return images, masks[[number[image.tobytes()] for image in images]]


def on_leaves(module: Any, variables: Any, images: np.ndarray, masks: np.ndarray) -> float:
    """The mean share of a heat map on the leaves; an image without any heat counts as 0."""
    heat = gradcam.heatmaps(module, variables, images, np.full(len(images), LEAF), BINARY)
    total = heat.sum(axis=(1, 2))
    return float(np.mean((heat * masks).sum(axis=(1, 2)) / np.where(total > 0, total, 1)))


def _weights(variables: Any) -> Any:
    return {name: variables[name] for name in ("params", "batch_stats") if name in variables}


if __name__ == "__main__":
    main()

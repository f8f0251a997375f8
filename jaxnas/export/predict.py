"""Classify image files by the network in a folder: its model.stablehlo, which needs no source of the network.

    python predict.py [--min-confidence P] IMAGE…

This file needs what requirements.txt lists, and nothing else.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from jax import export

BATCH = 256  # inputs at once
# What outputs are by the task: logits of one class of several, of yes or no, of several such; else numbers.
LOGITS = {"multiclass": "class", "binary": "yes or no", "multi_label": "labels"}


class Classifier:
    """The network in a folder.

    Attributes:
      about: the content of architecture.json: classes, input_shape, task, …
    """

    def __init__(self, folder):
        folder = Path(folder)
        self.about = json.loads((folder / "architecture.json").read_text("utf-8"))
        self.call = export.deserialize(bytearray((folder / "model.stablehlo").read_bytes())).call

    def read(self, path):
        """An image file as the network takes it, uint8 [H, W, C]: as the training images were read.

        Raises:
          ValueError: the file is no image of 8 bits a channel.
        """
        from PIL import Image, UnidentifiedImageError

        if self.about.get("kind", "image") != "image":
            raise ValueError(
                f"{path}: the network takes inputs of kind {self.about['kind']!r}, not image files"
            )
        height, width, channels = self.about["input_shape"]
        if channels not in (1, 3):
            raise ValueError(f"the network takes {channels} channels, and image files have 1 or 3")
        mode = "L" if channels == 1 else "RGB"
        try:
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")):
                    raise ValueError(f"mode {image.mode}; images take 8 bits a channel")
                image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
                if image.size != (width, height):
                    image = image.resize((width, height), Image.Resampling.BILINEAR)
                return np.asarray(image.convert(mode)).reshape(height, width, channels)
        except UnidentifiedImageError:
            raise ValueError(f"{path}: not a readable image (of no known format)") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            why = getattr(error, "strerror", None) or error
            raise ValueError(f"{path}: not a readable image ({why})") from None

    def outputs(self, inputs):
        """Inputs [N, …], images uint8 [N, H, W, C] → float32 [N, outputs]: logits, or numbers."""
        N, parts = len(inputs), []
        for start in range(0, N, BATCH):
            batch = inputs[start : start + BATCH]
            missing = BATCH - len(batch) if N > BATCH else 0  # one shape is one compilation
            batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
            parts.append(np.asarray(self.call(batch))[: BATCH - missing])
        return np.concatenate(parts)

    def probabilities(self, outputs):
        """Outputs [N, outputs] → probabilities [N, classes]; of a regression the outputs themselves.

        Logits are divided by the temperature at which probabilities are as frequent as they say.
        """
        outputs, logits = np.asarray(outputs, np.float64), LOGITS.get(self.about["task"])
        if logits is None:
            return outputs
        outputs = outputs / self.about.get("temperature", 1.0)
        if logits == "class":
            powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)
        positive = np.exp(-np.logaddexp(0, -outputs))
        return np.concatenate([1 - positive, positive], axis=1) if logits == "yes or no" else positive

    def describe(self, probabilities, least=0.0):
        """Probabilities [classes] → a line such as "leaf 0.981, ground 0.019", the likeliest first.

        Where none is `least` or more, the line begins with "none of these".
        """
        order = range(len(probabilities))
        if self.about["task"] in LOGITS:
            order = np.argsort(-probabilities, kind="stable")[:5]
        words = ", ".join(f"{self.about['classes'][i]} {probabilities[i]:.3f}" for i in order)
        return words if not least or max(probabilities) >= least else f"none of these: {words}"


def check_confidence(least, task):
    """Raise a ValueError if answers of that task cannot be held back below this probability."""
    if not 0 <= least <= 1:
        raise ValueError(f"--min-confidence: got {least:g}; it takes a probability, 0 to 1")
    if least and task not in LOGITS:
        raise ValueError(f"--min-confidence: answers of task {task} are numbers and have no probability")


def main(folder, paths, least=0.0):
    """Print a line an image; returns how many could not be read."""
    classifier, failed = Classifier(folder), 0
    check_confidence(least, classifier.about["task"])
    for path in paths:
        try:
            image = classifier.read(path)
        except ValueError as error:
            print(error, file=sys.stderr)
            failed += 1
            continue
        probabilities = classifier.probabilities(classifier.outputs(image[None]))[0]
        print(f"{path}: {classifier.describe(probabilities, least)}")
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Classify image files.")
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument(
        "--min-confidence", type=float, default=0.0, metavar="P", help='below P the answer is "none of these"'
    )
    given = parser.parse_args()
    try:
        sys.exit(min(main(Path(__file__).parent, given.images, given.min_confidence), 1))
    except ValueError as error:
        sys.exit(str(error))

"""1,797 handwritten digits, 8×8 gray, bundled with scikit-learn: real images without a download.

Alpaydin & Kaynak 1998, https://doi.org/10.24432/C50P49; the test part of the UCI collection.

Suits a first search: it is at hand without a download.
"""

import numpy as np

from jaxnas.data.arrays import Part, Raw
from jaxnas.errors import InputError


def load(argument: str) -> Raw:
    """The digits 0–9, their 17 gray levels stretched to 0–255; one published split."""
    if argument:
        raise InputError(f"data.source: 'digits' takes no argument, got {argument!r}")
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(np.asarray(pixels) * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    return Raw({"train": Part(images, np.asarray(labels))})

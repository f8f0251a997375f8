"""CIFAR-10: 50,000 + 10,000 colour photographs, 32×32, from the binary archive (never the pickled one).

Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html.

Suits comparison with published results, on an accelerator; 163 MB are downloaded once.
"""

import tarfile

import numpy as np

from jaxnas.data.arrays import Part, Raw
from jaxnas.data.cache import fetch
from jaxnas.errors import InputError

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load(argument: str) -> Raw:
    """Training and test split."""
    if argument:
        raise InputError(f"data.source: 'cifar10' takes no argument, got {argument!r}")
    path, _ = fetch("cifar-10-binary.tar.gz", URL, (MD5,))
    batches = {}
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            if member.name.endswith(".bin"):
                batches[member.name.rpartition("/")[2]] = archive.extractfile(member).read()  # type: ignore
    train = b"".join(batches[name] for name in sorted(batches) if name.startswith("data_batch"))
    return Raw({"train": _part(train), "test": _part(batches["test_batch.bin"])}, classes=CLASSES)


def _part(data: bytes) -> Part:
    """A record is the label, then the red, the green and the blue plane."""
    rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    images = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Part(np.ascontiguousarray(images), rows[:, 0])

"""MNIST: 60,000 + 10,000 handwritten digits, 28×28 gray, from the four original idx files.

LeCun, Bottou, Bengio & Haffner 1998, https://doi.org/10.1109/5.726791.

Suits comparison with published results; it is downloaded once.
"""

import gzip

import numpy as np

from jaxnas.data.arrays import Part, Raw
from jaxnas.data.cache import fetch
from jaxnas.errors import InputError

URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"  # a mirror; the original page asks for a password
MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}


def load(argument: str) -> Raw:
    """Training and test split."""
    if argument:
        raise InputError(f"data.source: 'mnist' takes no argument, got {argument!r}")
    train_images, train_labels, test_images, test_labels = map(_read, MD5)
    return Raw({"train": Part(train_images, train_labels), "test": Part(test_images, test_labels)})


def _read(name: str) -> np.ndarray:
    path, _ = fetch(f"mnist/{name}", URL + name, (MD5[name],))
    data = gzip.decompress(path.read_bytes())
    rank = data[3]  # the header: 0, 0, type (8: uint8), rank, then a big-endian int32 for every dimension
    shape = np.frombuffer(data, ">i4", rank, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)

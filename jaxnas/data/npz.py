"""A NumPy archive `{train,val,test}_{images,labels}`, the layout of MedMNIST; never pickled.

Suits your own data where they are arrays already.
"""

from pathlib import Path

import numpy as np

from jaxnas.data.arrays import Part, Raw, split_names
from jaxnas.errors import InputError


def load(argument: str) -> Raw:
    """The splits of the file `argument`: `train`, and `val` (or `validation`) and `test` if there.

    Images are uint8 [N, H, W] or [N, H, W, C]. Labels are integers [N] or [N, 1] (classes), 0 and 1 [N, L]
    (several labels an image), or floats [N] or [N, targets] (regression).
    """
    if not argument:
        raise InputError("data.source: 'npz' takes a path: npz:PATH")
    return Raw(read(Path(argument).expanduser()))


def read(path: Path) -> dict[str, Part]:
    """The splits of a file in that layout."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; data.source takes npz:PATH")
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files if key.endswith(("_images", "_labels"))}
    except Exception as error:  # a damaged archive raises all kinds
        raise InputError(f"{path}: not a readable .npz of plain arrays, or truncated ({error})") from error
    names = split_names(path, {key.rpartition("_")[0] for key in arrays})
    for key in (f"{name}_{what}" for name in names.values() for what in ("images", "labels")):
        if key not in arrays:
            raise InputError(f"{path}: has no {key!r}; it has {', '.join(sorted(arrays))}")
    return {split: Part(arrays[f"{name}_images"], arrays[f"{name}_labels"]) for split, name in names.items()}

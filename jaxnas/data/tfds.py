"""Data sets prepared by TensorFlow Datasets as array_record or parquet, read without TensorFlow.

https://www.tensorflow.org/datasets/tfless_tfds

Suits data sets that TensorFlow Datasets has prepared on this machine.
"""

from pathlib import Path

import numpy as np

from jaxnas.data.arrays import SPLITS, Part, Raw, split_names
from jaxnas.errors import InputError


def load(argument: str) -> Raw:
    """`NAME` or `NAME:CONFIG` in the folder of tfds (`$TFDS_DATA_DIR`), or the path of a prepared set."""
    if not argument:
        raise InputError("data.source: 'tfds' takes a name: tfds:NAME")
    source = f"tfds:{argument}"
    try:
        import tensorflow_datasets as tfds  # type: ignore
    except ImportError as error:
        raise InputError(
            f"data.source: {source!r} needs tensorflow-datasets: pip install 'jaxnas[tfds]'"
        ) from error
    path, name = Path(argument).expanduser(), argument.replace(":", "/")
    try:
        prepared = (path / "dataset_info.json").is_file()
        builder = tfds.builder_from_directory(path) if prepared else tfds.builder(name)
        info = builder.info
        if not info.splits:
            raise FileNotFoundError(f"nothing is prepared in {builder.data_dir}")
        rows = {}
        for split in SPLITS.keys() & set(info.splits):
            data = builder.as_data_source(split=split)
            rows[split] = data.__getitems__(range(len(data)))
    except (ImportError, NotImplementedError, AssertionError, ValueError, OSError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".:")
        raise InputError(
            f"{source}: {reason}; it takes a set prepared as array_record, once, where TensorFlow is: "
            f"tfds build {name} --file_format=array_record"
        ) from error
    names = split_names(source, rows)
    keys = info.supervised_keys
    image, label = keys if isinstance(keys, tuple) and len(keys) == 2 else ("image", "label")
    if not {image, label} <= set(info.features):
        raise InputError(
            f"{source}: has the features {', '.join(info.features)}; it takes 'image' and 'label'"
        )
    parts = {
        split: Part([row[image] for row in rows[there]], np.asarray([row[label] for row in rows[there]]))
        for split, there in names.items()
    }
    return Raw(parts, classes=tuple(getattr(info.features[label], "names", None) or ()))

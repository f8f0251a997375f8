"""Every source of the registry, on small files of its layout: what is published arrives, in order."""

import gzip
import hashlib
import io
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from jaxnas import data
from jaxnas.data import cifar10, digits, leaves, medmnist, mnist
from jaxnas.errors import InputError
from jaxnas.training.task import REGISTRY as TASKS


def noise(count, *shape, seed=0):
    return np.random.default_rng(seed).integers(256, size=(count, *shape), dtype=np.uint8)


def labels(count, classes):
    return (np.arange(count) % classes).astype(np.uint8)


def publish(patch, folder, files):
    """Puts the bytes of {name: bytes} where a file:// URL finds them, and the cache elsewhere."""
    site = folder / "site"
    site.mkdir()
    for name, content in files.items():
        (site / name).write_bytes(content)
    patch.setenv("JAXNAS_DATA", str(folder / "cache"))
    return f"{site.as_uri()}/", {name: hashlib.md5(content).hexdigest() for name, content in files.items()}


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return gzip.compress(header + array.tobytes())


def make_mnist(patch, folder):
    arrays = noise(40, 28, 28), labels(40, 4), noise(12, 28, 28, seed=1), labels(12, 4)
    url, md5 = publish(patch, folder, dict(zip(mnist.MD5, map(idx, arrays), strict=True)))
    patch.setattr(mnist, "URL", url)
    patch.setattr(mnist, "MD5", md5)
    return "mnist"


def make_cifar10(patch, folder):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for number, name in enumerate(["test_batch", *(f"data_batch_{n}" for n in (2, 1, 3, 4, 5))]):
            rows = np.hstack([labels(10, 10)[:, None], noise(10, 3072, seed=number)])
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = rows.size
            archive.addfile(member, io.BytesIO(rows.tobytes()))
    url, md5 = publish(patch, folder, {"cifar-10-binary.tar.gz": content.getvalue()})
    patch.setattr(cifar10, "URL", url + "cifar-10-binary.tar.gz")
    patch.setattr(cifar10, "MD5", *md5.values())
    return "cifar10"


def npz_bytes(sizes=(44, 11, 11), classes=11):
    content = io.BytesIO()
    arrays = {}
    for seed, (split, count) in enumerate(zip(("train", "val", "test"), sizes, strict=True)):
        arrays[f"{split}_images"] = noise(count, 28, 28, seed=seed)
        arrays[f"{split}_labels"] = labels(count, classes)[:, None]
    np.savez(content, **arrays)
    return content.getvalue()


def make_npz(patch, folder):
    (folder / "some.npz").write_bytes(npz_bytes())
    return f"npz:{folder / 'some.npz'}"


def make_medmnist(patch, folder, older=False):
    content = npz_bytes()
    # file:// has no query, so the question mark of the URL is part of the name here.
    url, md5 = publish(patch, folder, {"organamnist.npz?download=1": content})
    own, other = *md5.values(), "0" * 32
    facts = medmnist.SETS["organamnist"]
    facts = facts._replace(md5=f"{other if older else own} 1 2 3", older_md5=own if older else other)
    patch.setattr(medmnist, "URL", url.replace("?", "%3F"))
    patch.setitem(medmnist.SETS, "organamnist", facts)
    cache = folder / "cache"
    cache.mkdir()
    (cache / "organamnist.npz").write_bytes(content)
    return "medmnist:organamnist"


def make_folder(patch, folder):
    for split, count in {"train": 20, "val": 4, "test": 4}.items():
        for label, name in enumerate(("cat", "dog")):
            path = folder / "pets" / split / name
            path.mkdir(parents=True)
            for i, image in enumerate(noise(count, 12, 10, 3, seed=label)):
                Image.fromarray(image).save(path / f"{i:03}.png")
    return f"folder:{folder / 'pets'}"


class FakeTfds:
    """As much of tensorflow_datasets as the loader touches."""

    def __init__(self, splits=("train", "test", "extra"), error=None):
        self.splits, self.error, self.asked = splits, error, []

    def builder(self, name):
        self.asked.append(name)
        label = SimpleNamespace(names=["no", "yes"])
        info = SimpleNamespace(
            splits=self.splits,
            supervised_keys=("picture", "answer"),
            features={"picture": 0, "answer": label},
        )
        return SimpleNamespace(info=info, as_data_source=self.as_data_source, data_dir="/prepared/here")

    def as_data_source(self, split):
        if self.error:
            raise self.error
        return self

    def __len__(self):
        return 30

    def __getitems__(self, indices):
        images = noise(30, 9, 9, 1)
        return [{"picture": images[i], "answer": i % 2} for i in indices]


def make_tfds(patch, folder):
    patch.setitem(sys.modules, "tensorflow_datasets", FakeTfds())
    return "tfds:fake"


MAKE = {
    "digits": lambda patch, folder: "digits",
    "leaves": lambda patch, folder: "leaves:count=60,size=16",
    "mnist": make_mnist,
    "cifar10": make_cifar10,
    "npz": make_npz,
    "folder": make_folder,
    "medmnist": make_medmnist,
    "tfds": make_tfds,
}


@pytest.fixture(params=data.REGISTRY)
def source(request, monkeypatch, tmp_path):
    return MAKE[request.param](monkeypatch, tmp_path)


def splits_of(dataset):
    return [split for split in (dataset.train, dataset.validation, dataset.test) if split is not None]


def test_every_source_gives_checked_arrays(source):
    dataset = data.load(source)
    assert dataset.name == source
    assert dataset.task in TASKS.values()
    assert dataset.class_weights is None
    assert len(splits_of(dataset)) == 3
    for images, targets in splits_of(dataset):
        assert images.dtype == np.uint8
        assert images.shape[1:] == dataset.train.inputs.shape[1:]
        assert len(images) == len(targets) > 0
        assert targets.dtype == np.int32
        assert set(targets) == set(range(len(dataset.classes)))


def test_every_source_is_deterministic(source):
    for ours, theirs in zip(splits_of(data.load(source)), splits_of(data.load(source)), strict=True):
        np.testing.assert_array_equal(ours.inputs, theirs.inputs)
        np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_every_source_takes_the_options(source):
    dataset = data.load(
        source, classes=(1, 0), task="binary", limit=5, image_size=6, color="rgb", class_weights="balanced"
    )
    whole = data.load(source)
    assert dataset.classes == whole.classes[1::-1]
    assert dataset.num_outputs == 1
    for images, targets in splits_of(dataset):
        assert images.shape[1:] == (6, 6, 3)
        assert len(images) <= 5
        assert set(targets) <= {0, 1}
    counts = np.bincount(dataset.train.labels)
    np.testing.assert_allclose(dataset.class_weights, counts.sum() / (2 * counts), rtol=1e-6)


def test_a_source_without_argument_refuses_one():
    for scheme in ("digits", "mnist", "cifar10"):
        with pytest.raises(InputError, match="takes no argument, got 'big'"):
            data.load(f"{scheme}:big")


def test_digits():
    raw = digits.load("").parts["train"]
    assert raw.images.shape == (1797, 8, 8)
    assert (raw.images.min(), raw.images.max()) == (0, 255)
    assert len(np.unique(raw.images)) == 17


def test_mnist_reads_idx_files_and_keeps_the_test_split(monkeypatch, tmp_path):
    dataset = data.load(make_mnist(monkeypatch, tmp_path))
    np.testing.assert_array_equal(dataset.test.inputs[..., 0], noise(12, 28, 28, seed=1))
    np.testing.assert_array_equal(dataset.test.labels, labels(12, 4))
    assert len(dataset.train.inputs) == 32
    assert len(dataset.validation.inputs) == 8


def test_cifar10_batches_are_in_order_and_planes_are_red_green_blue(monkeypatch, tmp_path):
    raw = data.REGISTRY[make_cifar10(monkeypatch, tmp_path)]("")
    second = noise(10, 3072, seed=2)  # data_batch_1 is the second after the test batch in the archive
    np.testing.assert_array_equal(raw.parts["train"].images[3, 4, 5], second[3].reshape(3, 32, 32)[:, 4, 5])
    np.testing.assert_array_equal(raw.parts["test"].images[0, ..., 2].ravel(), noise(10, 3072)[0, 2048:])
    assert raw.classes[0] == "airplane"


def test_npz_keeps_published_splits(monkeypatch, tmp_path):
    dataset = data.load(make_npz(monkeypatch, tmp_path))
    assert [len(split.labels) for split in splits_of(dataset)] == [44, 11, 11]
    np.testing.assert_array_equal(dataset.train.inputs[..., 0], noise(44, 28, 28))
    np.testing.assert_array_equal(dataset.train.labels, labels(44, 11))


@pytest.mark.parametrize(
    ("targets", "task", "shape", "classes"),
    [
        (labels(20, 2), "multiclass", (12,), ("0", "1")),
        (labels(20, 2).astype(bool), "multiclass", (12,), ("0", "1")),
        (np.linspace(0, 1, 20), "regression", (12, 1), ("0",)),
        (np.ones((20, 3), np.float32), "regression", (12, 3), ("0", "1", "2")),
        (np.eye(4, dtype=np.uint8)[labels(20, 4)], "multi_label", (12, 4), ("0", "1", "2", "3")),
    ],
)
def test_npz_labels_say_the_task(tmp_path, targets, task, shape, classes):
    np.savez(tmp_path / "x.npz", train_images=noise(20, 5, 5, 2), train_labels=targets)
    dataset = data.load(f"npz:{tmp_path / 'x.npz'}")
    assert (dataset.task.name, dataset.train.labels.shape, dataset.classes) == (task, shape, classes)
    assert dataset.train.labels.dtype == (np.int32 if task == "multiclass" else np.float32)
    assert dataset.train.inputs.shape == (12, 5, 5, 2)
    assert dataset.num_outputs == len(classes)


def test_npz_takes_validation_for_val(tmp_path):
    arrays = {f"{split}_images": noise(6, 5, 5) for split in ("train", "validation")}
    arrays |= {f"{split}_labels": labels(6, 2) for split in ("train", "validation")}
    np.savez(tmp_path / "x.npz", **arrays)
    dataset = data.load(f"npz:{tmp_path / 'x.npz'}", test_fraction=0.0)
    assert dataset.test is None
    assert len(dataset.validation.labels) == 6


def test_columns_of_several_labels_can_be_chosen(tmp_path):
    targets = np.eye(4, dtype=np.uint8)[labels(20, 4)]
    np.savez(tmp_path / "x.npz", train_images=noise(20, 5, 5), train_labels=targets)
    dataset = data.load(f"npz:{tmp_path / 'x.npz'}", classes=(3, 1))
    assert dataset.classes == ("3", "1")
    assert dataset.train.labels.shape == (12, 2)
    assert sum(split.labels[:, 0].sum() for split in splits_of(dataset)) == 5


def test_ordinal_labels_can_be_a_number(monkeypatch, tmp_path):
    dataset = data.load(make_npz(monkeypatch, tmp_path), task="regression")
    np.testing.assert_array_equal(dataset.train.labels, labels(44, 11)[:, None].astype(np.float32))
    assert dataset.num_outputs == 1


def test_medmnist_says_which_release(monkeypatch, tmp_path):
    source = make_medmnist(monkeypatch, tmp_path, older=True)
    dataset = data.load(source)
    assert dataset.name == f"{source} (the file of medmnist 2)"
    assert dataset.classes[:2] == ("bladder", "femur-left")


def test_medmnist_sizes(monkeypatch, tmp_path):
    make_medmnist(monkeypatch, tmp_path)
    (tmp_path / "cache" / "organamnist.npz").rename(tmp_path / "cache" / "organamnist_128.npz")
    with pytest.raises(InputError, match=r"organamnist_128.npz: md5 [0-9a-f]{32} is not the published 2;"):
        data.load("medmnist:organamnist:128")
    with pytest.raises(InputError, match=r"no size '32'; it takes one of \(28, 64, 128, 224\)"):
        data.load("medmnist:organamnist:32")
    with pytest.raises(InputError, match="did you mean 'organamnist'"):
        data.load("medmnist:organamist")


@pytest.mark.parametrize(("name", "task"), [("pneumoniamnist", "binary"), ("retinamnist", "multiclass")])
def test_medmnist_tasks(monkeypatch, tmp_path, name, task):
    facts = medmnist.SETS[name]
    content = npz_bytes((20, 10, 10), len(facts.classes.split("; ")))
    (tmp_path / f"{name}.npz").write_bytes(content)
    monkeypatch.setenv("JAXNAS_DATA", str(tmp_path))
    monkeypatch.setitem(medmnist.SETS, name, facts._replace(md5=hashlib.md5(content).hexdigest() + " 1 2 3"))
    assert data.load(f"medmnist:{name}").task.name == task
    assert data.load(f"medmnist:{name}", task="regression").task.name == "regression"


def test_medmnist_table_is_the_package_s():
    info = pytest.importorskip("medmnist.info").INFO
    tasks = {"multi-label, binary-class": "multi_label", "binary-class": "binary"}
    assert set(medmnist.SETS) == {name for name in info if not name.endswith("3d")}
    for name, facts in medmnist.SETS.items():
        theirs = info[name]
        assert facts.task == tasks.get(theirs["task"], "multiclass")
        assert facts.classes.split("; ") == list(theirs["label"].values())
        assert facts.md5.split() == [theirs["MD5"], *(theirs[f"MD5_{size}"] for size in medmnist.SIZES[1:])]
        assert theirs["url"] == f"{medmnist.URL}{name}.npz?download=1"


def test_folder_order_names_and_pixels(monkeypatch, tmp_path):
    dataset = data.load(make_folder(monkeypatch, tmp_path))
    assert dataset.classes == ("cat", "dog")
    np.testing.assert_array_equal(
        dataset.train.inputs, np.concatenate([noise(20, 12, 10, 3, seed=s) for s in (0, 1)])
    )
    np.testing.assert_array_equal(dataset.train.labels, np.repeat([0, 1], 20))
    assert [len(split.labels) for split in splits_of(dataset)] == [40, 8, 8]


def test_folder_of_classes_is_split_here(tmp_path):
    for name in ("b", "a", ".hidden"):
        (tmp_path / name / "deeper").mkdir(parents=True)
        (tmp_path / name / ".DS_Store").touch()
        for i, image in enumerate(noise(10, 6, 6)):
            Image.fromarray(image).save(tmp_path / name / ("deeper" if i else ".") / f"{i}.png")
    dataset = data.load(f"folder:{tmp_path}")
    assert dataset.classes == ("a", "b")
    assert [split.inputs.shape for split in splits_of(dataset)] == [(12, 6, 6, 1), (4, 6, 6, 1), (4, 6, 6, 1)]


def test_folder_of_mixed_sizes_and_colors_can_be_made_equal(tmp_path):
    gray = np.full((9, 5), 100, np.uint8)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(5):
            Image.fromarray(gray).save(tmp_path / name / f"g{i}.png")
            Image.fromarray(np.stack([gray.T] * 3, -1)).save(tmp_path / name / f"c{i}.png")
            Image.fromarray(gray).convert("P").save(tmp_path / name / f"p{i}.png")
    dataset = data.load(f"folder:{tmp_path}", image_size=4, color="gray")
    assert dataset.train.inputs.shape == (18, 4, 4, 1)
    assert (dataset.train.inputs == 100).all()
    with pytest.raises(InputError, match=r"g\d.png is \[9, 5, 1\], others are \[5, 9, 3\].*data.image_size"):
        data.load(f"folder:{tmp_path}")
    with pytest.raises(InputError, match=r"g\d.png is \[4, 4, 1\], others are \[4, 4, 3\].*data.color"):
        data.load(f"folder:{tmp_path}", image_size=4)


def test_resizing_is_antialiased_and_gray_is_luma(tmp_path):
    image = np.zeros((1, 4, 4, 3), np.uint8)
    image[..., 1] = 200  # green weighs 0.587
    image[:, ::2] = 0
    np.savez(tmp_path / "x.npz", train_images=np.repeat(image, 10, 0), train_labels=labels(10, 2))
    dataset = data.load(f"npz:{tmp_path / 'x.npz'}", image_size=1, color="gray")
    np.testing.assert_allclose(dataset.train.inputs, 0.587 * 100, atol=1)


def test_tfds_reads_what_is_published(monkeypatch):
    fake = FakeTfds()
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake)
    dataset = data.load("tfds:fake:big")
    assert fake.asked == ["fake/big"]
    assert dataset.classes == ("no", "yes")
    np.testing.assert_array_equal(dataset.test.inputs, noise(30, 9, 9, 1))
    assert len(dataset.train.labels) + len(dataset.validation.labels) == 30


def test_tfds_errors_name_the_fix(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(InputError, match=r"pip install 'jaxnas\[tfds\]'"):
        data.load("tfds:fake")
    for fake, found in (
        (FakeTfds(splits=()), "nothing is prepared in /prepared/here"),
        (
            FakeTfds(error=NotImplementedError("TFRECORD is not supported.\nmore")),
            "TFRECORD is not supported;",
        ),
    ):
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake)
        with pytest.raises(InputError, match=f"{found}.*tfds build fake --file_format=array_record"):
            data.load("tfds:fake")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", FakeTfds(splits=("test",)))
    with pytest.raises(InputError, match="has no 'train', only test"):
        data.load("tfds:fake")


@pytest.mark.filterwarnings("ignore")
def test_tfds_for_real(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Tensor(shape=(9, 9, 1), dtype=np.uint8)}
            features["label"] = tfds.features.ClassLabel(names=["a", "b", "c"])
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
            )

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i, image in enumerate(noise(30, 9, 9, 1)):
                yield i, {"image": image, "label": i % 3}

    builder = Tiny(data_dir=str(tmp_path), file_format="array_record")
    builder.download_and_prepare()
    raw = data.REGISTRY["tfds"](str(builder.data_dir))
    np.testing.assert_array_equal(np.stack(raw.parts["train"].images), noise(30, 9, 9, 1))
    np.testing.assert_array_equal(raw.parts["train"].labels, labels(30, 3))
    assert raw.classes == ("a", "b", "c")


def test_a_source_of_the_user_s_own(monkeypatch, tmp_path):
    Path(tmp_path, "own_source.py").write_text(
        "import numpy as np\nfrom jaxnas.data import Part, Raw\n"
        "def make(argument):\n    n = int(argument or 10)\n"
        "    return Raw({'train': Part(np.zeros((n, 3, 3), np.uint8), np.arange(n) % 2)})\n"
        "def wrong(argument):\n    return [argument]\n"
    )
    Path(tmp_path, "broken_source.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert len(data.load("own_source:make").train.labels) == 6
    assert len(data.load("own_source:make:20").train.labels) == 12
    for source, message in {
        "own_source:wrong": "gave list; it takes a Raw with a 'train' part",
        "own_source:mke": "module own_source has no function 'mke'",
        "broken_source:make": "broken_source cannot be imported: No module named 'no_such_module'",
    }.items():
        with pytest.raises(InputError, match=message):
            data.load(source)


def test_leaves_options_in_the_source():
    raw = leaves.load("count=3,size=16,seed=2,rotate=true")
    images, targets, _ = leaves.generate(3, 16, seed=2, rotate=True)
    np.testing.assert_array_equal(raw.parts["train"].images, images)
    np.testing.assert_array_equal(raw.parts["train"].labels, targets)
    assert data.load("leaves:count=20,size=8").task.name == "binary"

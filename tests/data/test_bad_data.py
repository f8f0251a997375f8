"""Bad input is one line that names the key or file, what was found and what is taken."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxnas import data
from jaxnas.data import mnist
from jaxnas.errors import InputError


def fails(message, source, **options):
    with pytest.raises(InputError, match=message) as caught:
        data.load(source, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": -1}, "data.limit: got -1; it takes 0 or more"),
        ({"image_size": -8}, "data.image_size: got -8"),
        ({"seed": -1}, "data.seed: got -1"),
        (
            {"validation_fraction": 0.0},
            "data.validation_fraction: got 0.0; it takes more than 0, less than 1",
        ),
        ({"validation_fraction": 1.0}, "data.validation_fraction: got 1.0"),
        ({"validation_fraction": float("nan")}, "data.validation_fraction: got nan"),
        ({"test_fraction": -0.1}, "data.test_fraction: got -0.1"),
        ({"test_fraction": 1.0}, "data.test_fraction: got 1.0"),
        ({"color": "grey"}, "data.color: unknown name 'grey'; did you mean 'gray'"),
        ({"measure": "balanced"}, "data.measure: unknown name 'balanced'; did you mean 'balanced_accuracy'"),
        ({"class_weights": "balance"}, "data.class_weights: unknown name 'balance'; did you mean 'balanced'"),
        ({"task": "multi-class"}, "data.task: unknown name 'multi-class'; did you mean 'multiclass'"),
        ({"task": "regression", "class_weights": "balanced"}, "data.class_weights: 'balanced' takes classes"),
        ({"classes": (3, 12)}, r"data.classes: got 12 in \(3, 12\); it takes each of 0 to 9"),
        ({"classes": (3,)}, "'multiclass' takes at least 2 classes"),
        ({"limit": 9}, "data.limit: 9 leaves classes empty; it takes 0 or at least 10"),
        ({"validation_fraction": 0.8}, "data.validation_fraction or data.test_fraction"),
    ],
)
def test_options(options, message):
    fails(message, "digits", **options)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digitz", "data.source: unknown name 'digitz'; did you mean 'digits'"),
        ("ministry:x", "data.source: unknown name 'ministry'"),
        ("no.such.module:factory", "data.source: unknown name 'no.such.module'"),
        ("./folder:x", r"data.source: unknown name './folder'; did you mean 'folder'"),
        ("", "data.source: unknown name ''"),
        ("npz", "'npz' takes a path: npz:PATH"),
        ("folder:", "'folder' takes a path: folder:PATH"),
        ("tfds", "'tfds' takes a name: tfds:NAME"),
        ("npz:/no/such.npz", "/no/such.npz: no such file"),
        ("folder:/no/such", "/no/such: no such folder"),
    ],
)
def test_sources(source, message):
    fails(message, source)


GOOD = {"train_images": np.zeros((10, 4, 4), np.uint8), "train_labels": np.arange(10) % 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": np.zeros((10, 4, 4))}, r"train images are float64 \[10, 4, 4\]; they take uint8"),
        ({"train_images": np.zeros((10, 16), np.uint8)}, r"train images are uint8 \[10, 16\]"),
        ({"train_images": np.zeros((9, 4, 4), np.uint8)}, "train has 9 images and 10 labels"),
        ({"train_images": np.zeros((0, 4, 4), np.uint8), "train_labels": np.zeros(0)}, "train has 0 images"),
        ({"train_labels": np.arange(10) % 2 - 1}, "train label -1 is out of range; it takes 0 to 0"),
        ({"train_labels": np.arange(10) * 9}, "labels to 81 on 10 training images"),
        ({"train_labels": np.arange(10) % 2 * 2}, "class '1' has no training image"),
        ({"train_labels": np.full((10, 2), 2)}, "train label 2 is out of range; it takes 0 to 1"),
        (
            {
                "train_labels": np.eye(10, dtype=int)[:, :2],
                "test_images": GOOD["train_images"],
                "test_labels": np.eye(10, dtype=int)[:, :3],
            },
            r"test labels are int64 \[10, 3\], train labels int64 \[10, 2\]; they take the same kind",
        ),
        ({"train_labels": np.full(10, np.nan)}, "train labels hold NaN or infinity"),
        ({"train_labels": np.array(["cat"] * 10)}, "train labels are <U3"),
        ({"train_labels": np.zeros((10, 2, 2), int)}, r"train labels are int64 \[10, 2, 2\]"),
        ({"train_labels": np.array([0, 1] * 5, object)}, "not a readable .npz of plain arrays"),
        ({"trian_images": 0}, "unknown name 'trian'; did you mean 'train'"),
        (
            {"val_images": GOOD["train_images"]},
            "has no 'val_labels'; it has train_images, train_labels, val_images",
        ),
        (
            {
                f"{split}_{what}": GOOD[f"train_{what}"]
                for split in ("val", "validation")
                for what in ("images", "labels")
            },
            "both 'val' and 'validation'",
        ),
        (
            {"test_images": GOOD["train_images"], "test_labels": np.arange(10)},
            "test label 2 is out of range; it takes 0 to 1",
        ),
        (
            {"test_images": GOOD["train_images"], "test_labels": np.zeros(10)},
            r"test labels are float32 \[10, 1\], train labels int64 \[10\]",
        ),
        (
            {"test_images": np.zeros((10, 5, 4), np.uint8), "test_labels": np.arange(10) % 2},
            r"splits\' images are .*\'test\': \[5, 4, 1\].*set data.image_size",
        ),
    ],
)
def test_npz(tmp_path, change, message):
    np.savez(tmp_path / "x.npz", **{**GOOD, **change})
    fails(message, f"npz:{tmp_path / 'x.npz'}")


def test_npz_without_train(tmp_path):
    np.savez(tmp_path / "x.npz", images=GOOD["train_images"])
    fails("x.npz: has no 'train', only nothing", f"npz:{tmp_path / 'x.npz'}")


def test_npz_channels_that_have_no_color(tmp_path):
    np.savez(
        tmp_path / "x.npz", train_images=np.zeros((10, 4, 4, 2), np.uint8), train_labels=np.arange(10) % 2
    )
    fails(
        r"train: image \d has 2 channels; data.image_size and data.color take 1 or 3",
        f"npz:{tmp_path / 'x.npz'}",
        image_size=8,
    )


def test_damaged_npz(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", **GOOD)
    whole = (tmp_path / "x.npz").read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    # What the last raises differs with the place: a bad checksum, bad compression, an unknown method, …
    for content in (
        whole[:-30],
        whole[:50],
        b"",
        b"not an archive",
        (tmp_path / "array.npy").read_bytes(),
        *(whole[:place] + b"\xff" * 9 + whole[place + 9 :] for place in (64, 70, 100, 290)),
    ):
        (tmp_path / "x.npz").write_bytes(content)
        fails("x.npz: not a readable .npz of plain arrays, or truncated", f"npz:{tmp_path / 'x.npz'}")


@pytest.fixture
def pets(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(5):
                Image.fromarray(np.full((6, 6), i, np.uint8)).save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def test_folder_that_is_good(pets):
    assert len(data.load(f"folder:{pets}").train.inputs) == 8


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("train/fish", "train/fish: an empty class"),
        ("test/catt", "test: unknown name 'catt'; did you mean 'cat'"),
        ("vaildation/cat", "unknown name 'vaildation'; did you mean 'validation'"),
    ],
)
def test_folder_with_a_wrong_folder(pets, path, message):
    (pets / path).mkdir(parents=True)
    fails(message, f"folder:{pets}")


def test_folder_without_train_or_classes(pets):
    (pets / "train").rename(pets / "validation")
    fails("has no 'train', only test, validation", f"folder:{pets}")
    fails("has no folders of classes", f"folder:{pets / 'test' / 'cat'}")


def test_folder_with_a_damaged_image(pets):
    damaged = pets / "test" / "dog" / "3.png"
    for content in (damaged.read_bytes()[:40], b"", b"text"):
        damaged.write_bytes(content)
        fails("test/dog/3.png: not a readable image", f"folder:{pets}")
    Image.fromarray(np.zeros((6, 6), np.uint16)).save(damaged)
    fails("test/dog/3.png: not a readable image .*8 bits a channel", f"folder:{pets}")


def test_folder_with_mixed_sizes_names_the_image(pets):
    Image.fromarray(np.zeros((6, 7), np.uint8)).save(pets / "test" / "dog" / "3.png")
    fails(
        r"dog/3.png is \[6, 7, 1\], others are \[6, 6, 1\]; images take one size: set data.image_size",
        f"folder:{pets}",
    )
    assert data.load(f"folder:{pets}", image_size=6).test.inputs.shape == (10, 6, 6, 1)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A file of MNIST's, published as a file, and an empty cache."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "f.gz").write_bytes(b"content")
    monkeypatch.setenv("JAXNAS_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(mnist, "URL", (tmp_path / "site").as_uri() + "/")
    monkeypatch.setattr(mnist, "MD5", {"f.gz": "9a0364b9e99bb480dd25e1f0284c8555"})
    return tmp_path


def fetch():
    return mnist.fetch("mnist/f.gz", mnist.URL + "f.gz", (mnist.MD5["f.gz"],))


def test_download_happens_once_and_says_so(site, capsys):
    path, md5 = fetch()
    assert path == site / "cache" / "mnist" / "f.gz"
    assert (path.read_bytes(), md5) == (b"content", mnist.MD5["f.gz"])
    assert capsys.readouterr().err == f"downloading {mnist.URL}f.gz to {path}\n"
    (site / "site" / "f.gz").unlink()
    assert fetch() == (path, md5)
    assert capsys.readouterr().err == ""
    assert [entry.name for entry in path.parent.iterdir()] == ["f.gz"]


def test_offline_says_which_file_to_put_where(site):
    (site / "site" / "f.gz").unlink()
    fails(
        rf"{site}/cache/mnist/f.gz: not there.*put {mnist.URL}f.gz there by hand \(md5 9a03.*JAXNAS_DATA",
        "mnist",
    )
    assert not list((site / "cache" / "mnist").iterdir())


def test_a_truncated_download_is_not_kept(site):
    (site / "site" / "f.gz").write_bytes(b"conte")
    fails("the download failed .md5 ", "mnist")
    assert not list((site / "cache" / "mnist").iterdir())


def test_a_damaged_file_in_the_cache_is_refused_and_left(site):
    path, _ = fetch()
    path.write_bytes(b"conten")
    fails("mnist/f.gz: md5 [0-9a-f]{32} is not the published 9a0364b9e99bb480dd25e1f0284c8555", "mnist")
    assert path.read_bytes() == b"conten"


def test_cache_folder(monkeypatch, tmp_path):
    from jaxnas.data import cache

    monkeypatch.delenv("JAXNAS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.root() == tmp_path / "jaxnas"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert str(cache.root()) == "/home/me/.cache/jaxnas"


def test_import_is_light():
    heavy = "sklearn", "PIL", "tensorflow_datasets", "medmnist", "torch"
    code = f"import sys, jaxnas.data; sys.exit(sorted(set(sys.modules) & {set(heavy)}) or 0)"
    subprocess.run([sys.executable, "-c", code], check=True)

import numpy as np
import pytest

from jaxnas import data
from jaxnas.data import leaves
from jaxnas.errors import InputError


def test_shapes_types_and_gray_levels():
    images, labels, masks = leaves.generate(100)
    assert (images.shape, images.dtype) == ((100, 64, 64, 1), np.uint8)
    assert (labels.shape, labels.dtype) == ((100,), np.int32)
    assert (masks.shape, masks.dtype) == ((100, 64, 64), bool)
    assert 30 < labels.sum() < 70
    assert images.max() <= 254
    assert images[masks].max() <= 120  # leaves and their veins
    assert images[masks].min() >= 10
    assert images[labels == 1][~masks[labels == 1]].min() >= 160  # the ground
    assert images[labels == 0].min() >= 50  # clutter


@pytest.mark.parametrize("rotate", [False, True])
def test_masks_are_leaves(rotate):
    _, labels, masks = leaves.generate(100, rotate=rotate)
    np.testing.assert_array_equal(masks.any((1, 2)), labels == 1)
    areas = masks[labels == 1].sum((1, 2))
    smallest, largest = np.pi / 4 * 0.6 * np.square([16, 28])
    assert 0.8 * smallest <= areas.min() <= 1.3 * smallest  # a single leaf, but for pixels at its edge
    assert areas.max() <= 1.2 * 3 * largest


def test_an_image_depends_on_seed_and_index_alone():
    few, many = leaves.generate(5, seed=3), leaves.generate(20, seed=3)
    for one, other in zip(few, many, strict=True):
        np.testing.assert_array_equal(one, other[:5])
    assert (leaves.generate(5, seed=4)[0] != few[0]).any((1, 2, 3)).all()


def test_rotation_turns_leaves_and_nothing_else():
    images, labels, masks = leaves.generate(40)
    turned, same, turned_masks = leaves.generate(40, rotate=True)
    np.testing.assert_array_equal(labels, same)
    np.testing.assert_array_equal(images[labels == 0], turned[labels == 0])
    assert (masks & turned_masks).sum() < 0.8 * (masks | turned_masks).sum()
    away = ~(masks | turned_masks)
    np.testing.assert_array_equal(images[away], turned[away])


@pytest.mark.parametrize("size", [24, 128])
def test_shapes_scale_with_the_image(size):
    share = leaves.generate(200, 64)[2].mean()
    images, _, masks = leaves.generate(200, size)
    assert images.shape == (200, size, size, 1)
    assert masks.mean() == pytest.approx(share, rel=0.2)


def test_folder_round_trip(tmp_path):
    path = tmp_path / "new" / "leaves"
    leaves.write_folder(path, 30, 16, seed=1)
    assert [entry.name for entry in path.parent.iterdir()] == ["leaves"]
    images, labels, _ = leaves.generate(30, 16, seed=1)
    raw = data.REGISTRY["folder"](str(path))
    assert raw.classes == leaves.CLASSES
    order = np.argsort(labels, kind="stable")
    np.testing.assert_array_equal(raw.parts["train"].labels, labels[order])
    np.testing.assert_array_equal(np.stack(raw.parts["train"].images), images[order, ..., 0])
    with pytest.raises(InputError, match="exists already"):
        leaves.write_folder(path, 30)


def test_a_failed_folder_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.Image.Image.save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        leaves.write_folder(tmp_path / "leaves", 3, 16)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("cuont=3", "unknown name 'cuont'; did you mean 'count'"),
        ("count=many", "count takes a whole number, got 'many'"),
        ("rotate=1", "rotate takes true or false, got '1'"),
        ("count=0", "count=0"),
        ("size=7", "size=7"),
        ("seed=-1", "seed=-1"),
    ],
)
def test_wrong_options(argument, message):
    with pytest.raises(InputError, match=message):
        data.load(f"leaves:{argument}")

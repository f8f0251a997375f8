"""How training varies images: by hand, and by what must hold of every image."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.errors import InputError
from jaxnas.training import child, trainer
from jaxnas.training import images as images_of
from jaxnas.training.task import MULTICLASS
from tests.helpers import assert_identical, dataset

KEY = jax.random.key(0)


def test_augmentation():
    """Every image is a window of itself in a border of zeros, mirrored in about half of the cases."""
    images = jnp.arange(1, 200 * 6 * 4 + 1, dtype=jnp.int32).reshape(200, 6, 4, 1)
    mirrors, does_not = {"flip": jnp.ones(())}, {"flip": jnp.zeros(())}
    shifted = np.asarray(images_of.augment(KEY, images, mirrors, crop=2))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    seen = set()
    for before, after in zip(padded, shifted, strict=True):
        fits = [
            (r, c, flip)
            for r, c, flip in itertools.product(range(5), range(5), (1, -1))
            if (before[r : r + 6, c : c + 4][:, ::flip] == after).all()
        ]
        assert len(fits) == 1
        seen |= set(fits)
    assert len(seen) > 45  # of 50
    flipped = images_of.augment(KEY, images, mirrors)
    mirrored = np.asarray((flipped == images[:, :, ::-1]).all((1, 2, 3)))
    assert 70 < mirrored.sum() < 130
    assert np.asarray((flipped == images).all((1, 2, 3)) | mirrored).all()
    assert_identical(images_of.augment(KEY, images, does_not), images)


def test_a_warp_by_hand():
    """A quarter turn, a mirror image, a window twice as large, a shift by a pixel: of 3 × 3 pixels."""
    image = jnp.arange(9.0).reshape(1, 3, 3, 1)
    still = {"mirrored": False, "turn": 0.0, "zoom": 1.0, "down": 0.0, "right": 0.0}

    def warped(**changes):
        values = [jnp.asarray([value]) for value in (still | changes).values()]
        return np.asarray(images_of.warp(image, *values))[0, :, :, 0].round(4).tolist()

    assert warped() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert warped(mirrored=True) == [[2, 1, 0], [5, 4, 3], [8, 7, 6]]
    assert warped(turn=np.pi / 2) == [[2, 5, 8], [1, 4, 7], [0, 3, 6]]
    assert warped(down=1.0) == [[3, 4, 5], [6, 7, 8], [3, 4, 5]]  # mirrored at the border
    assert warped(right=0.5) == [[0.5, 1.5, 1.5], [3.5, 4.5, 4.5], [6.5, 7.5, 7.5]]
    assert warped(zoom=0.5)[1] == [3.5, 4, 4.5]


def test_light_and_cutout():
    """They change as much as they say."""
    images = jnp.full((500, 6, 6, 1), 100, jnp.uint8)
    knobs = {name: jnp.zeros(()) for name in images_of.STRENGTHS}
    varied = images_of.augment(KEY, images, knobs | {"light": jnp.float32(0.2)}, lights=True)
    assert float(jnp.abs(varied - 100).max()) <= 0.2 * 27.5 + 0.2 * 255 / 4
    assert float(varied[:, 0, 0, 0].std()) == pytest.approx(
        np.hypot(0.2 * 27.5, 0.2 * 255 / 4) / 3**0.5, rel=0.1
    )
    cut = images_of.augment(KEY, images, knobs | {"cutout": jnp.float32(0.5)}, cuts=True)
    holes = np.asarray((cut == 127).sum((1, 2, 3)))
    assert holes.max() <= 9 and holes.min() >= 4 and holes.mean() > 6


def test_mixup():
    """λ of Beta(α, α); an input and its label are mixed with the one before, by the same share."""
    shares = trainer.quantiles(0.2)
    assert float(shares.mean()) == pytest.approx(0.5, abs=1e-3)
    assert float(shares.var()) == pytest.approx(1 / (4 * 1.4), rel=0.02)  # of Beta(α, α): 1/(4 (2 α + 1))
    x = jnp.arange(3.0)[:, None]
    mixed, share = images_of.mixed(KEY, x, jnp.array([0.75]))
    assert float(share) == 0.75 and mixed[:, 0].tolist() == [0.5, 0.75, 1.75]
    outputs, labels = jnp.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), jnp.array([0, 1, 1])
    recipe = types.SimpleNamespace(task=MULTICLASS, label_smoothing=0.0, class_weights=None)
    own, before = (MULTICLASS.loss(outputs, y, None) for y in (labels, jnp.array([1, 0, 1])))
    assert float(child.loss_of(recipe, outputs, labels, share)) == pytest.approx(0.75 * own + 0.25 * before)


def test_tokens_are_not_mixed():
    """Mixup takes images and numbers; half of one token and half of another is none."""
    tokens = dataset(n=8, n_validation=4, shape=(6,))._replace(kind="sequence")
    options = images_of.OPTIONS | {"mixup": 0.2}
    with pytest.raises(InputError, match=r"trainer.mixup: got 0.2; it mixes numbers, not uint8: set it to 0"):
        images_of.functions_of(tokens, options)
    assert images_of.functions_of(tokens, options | {"mixup": 0.0})[1] is None

"""Grad-CAM by hand, and the pictures."""

import types

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.errors import InputError
from jaxnas.export import gradcam, sheet
from jaxnas.training.task import BINARY, MULTICLASS


class Linear(nn.Module):
    """Two maps, x and 3 − x; scores: Σ of the first, and Σ of the second less twice Σ of the first."""

    @nn.compact
    def __call__(self, x):
        x = self.perturb("maps", jnp.concatenate([x, 3 - x], axis=-1))
        self.sow("intermediates", "maps", x)
        first, second = x.sum(axis=(1, 2)).T
        return jnp.stack([first, second - 2 * first], axis=1)


MODULE = types.SimpleNamespace(Model=Linear, preprocess=lambda images: jnp.asarray(images, jnp.float32))
IMAGE = np.array([[0, 1], [2, 3]], np.uint8).reshape(1, 2, 2, 1)


def test_by_hand():
    """Gradients are 1, 0 for the first class, so L is x; −2, 1 for the second, so ReLU(3 − 3 x)."""
    images = np.concatenate([IMAGE, IMAGE])
    heat = gradcam.heatmaps(MODULE, {}, images, np.array([0, 1]), MULTICLASS)
    np.testing.assert_allclose(heat[0], [[0, 1], [2, 3]], atol=1e-6)
    np.testing.assert_allclose(heat[1], [[3, 0], [0, 0]], atol=1e-6)


def test_one_logit_speaks_for_both_classes():
    heat = gradcam.heatmaps(MODULE, {}, np.concatenate([IMAGE, IMAGE]), np.array([1, 0]), BINARY)
    np.testing.assert_allclose(heat[0], [[0, 1], [2, 3]], atol=1e-6)
    np.testing.assert_array_equal(heat[1], 0)  # all of it speaks for class 1


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(InputError, match=r"no model\.py, which --explain needs"):
        gradcam.model_of(tmp_path)


def test_pictures():
    hot = np.array([[0.0, 2.0], [0.0, 0.0]])
    picture = sheet.Picture(np.full((2, 2, 1), 100, np.uint8), hot, ("one", "two"))
    shown = sheet.overlay(picture)
    np.testing.assert_array_equal(shown[0, 1], [214, 216, 148])  # a quarter of 100, the rest the last color
    np.testing.assert_array_equal(shown[1, 1], [75, 75, 76])  # three quarters of 100, the rest the first
    page = sheet.draw([("correct", [picture] * 5), ("wrong", []), ("", [picture])])
    pair = 2 * sheet.TILE + 3 * sheet.GAP
    assert page.size[0] == sheet.COLUMNS * pair
    np.testing.assert_array_equal(np.asarray(page)[40, 20], [100, 100, 100])

import numpy as np

from jaxnas.report import pictures
from tests.report.test_drawing import CELLS, SKIPS, STRAIGHT


def test_pictures_have_what_they_show():
    """By pixels: a dot, the front, an arc beside the boxes."""
    chart = pictures.scatter(np.array([1000.0, 2000.0]), np.array([0.5, 0.75]), "accuracy")
    assert chart.shape == (400, 640, 3)
    colours = {tuple(pixel) for pixel in chart.reshape(-1, 3).tolist()}
    assert {(0x7F, 0xB8, 0xD8), (0, 0x72, 0xB2)} <= colours
    assert pictures.scatter(np.array([1000.0]), np.array([0.5]), "accuracy").shape == chart.shape
    with_arc, without = pictures.network(SKIPS, ""), pictures.network(STRAIGHT, "")
    beside = 20 + pictures.BOX + 2
    assert (without[:, beside:] == 255).all() and (with_arc[:, beside:] < 255).any()
    assert pictures.network(CELLS, "").shape[2] == 3


def test_a_path_as_points():
    (first, second) = pictures._points("M0 0C0 10 8 10 8 20V30M1 2L3 4")
    assert first[0] == (0, 0) and first[-2:] == [(8, 20), (8, 30)]
    np.testing.assert_allclose(first[8], (4, 10))  # half of the way
    assert second == [(1, 2), (3, 4)]

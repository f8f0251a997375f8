"""What simple methods make of pixels, on images whose mean says the class."""

import numpy as np
import pytest

from jaxnas.runs import pixels
from jaxnas.training import measured
from jaxnas.training.task import BINARY, MULTICLASS
from jaxnas.types import Split
from tests.helpers import dataset


def rare(**options):
    """Blobs of three classes, of which the first one has half of the training images."""
    data = dataset(n=60, n_validation=30, **options)
    kept = np.flatnonzero((data.train.labels == 0) | (np.arange(60) < 30))
    return data._replace(train=Split(*(x[kept] for x in data.train)), test=data.validation)


@pytest.mark.parametrize("name", pixels.METHODS)
@pytest.mark.parametrize("classes", [3, 2])
def test_what_each_method_reaches(name, classes):
    data = rare(classes=classes)._replace(task=MULTICLASS if classes == 3 else BINARY)
    found = pixels.measure(name, data)
    assert (found.validation, found.images, found.seconds > 0) == (found.test, len(data.train.inputs), True)
    simple = name == "commonest class"
    assert found.validation["accuracy"] == (pytest.approx(1 / classes) if simple else 1)
    assert found.validation["auc"] == (0.5 if simple else 1)
    assert found.validation["constant"] == simple
    assert ("loss" in found.validation) == (name != "SVC")
    if name == "logistic regression":
        assert found.validation["loss"] < 0.1
        assert found.params == (3 * 65 if classes == 3 else 65)
    if name == "SVC":  # whole images, and of each a weight for every class but one
        assert (found.params - (3 if classes == 3 else 1)) % (64 + classes - 1) == 0
    assert pixels.measure(name, data._replace(test=None)).test == {}


def test_the_commonest_class_by_hand():
    """Shares ½, ¼, ¼ of 40 images: the loss is that of their logarithms on a third each."""
    data = rare()
    data = data._replace(task=measured.measured_by(MULTICLASS, "loss"))
    np.testing.assert_array_equal(np.bincount(data.train.labels), [20, 10, 10])
    values = pixels.measure("commonest class", data).validation
    assert values["loss"] == pytest.approx((np.log(2) + 2 * np.log(4)) / 3)
    assert values["balanced_accuracy"] == pytest.approx(1 / 3)


def test_bounds(monkeypatch):
    """So many images that the time is kept, of every class some, and 3 values a pixel of 32 × 32 at most."""
    for _, bound in pixels.METHODS.values():
        assert bound(3072, 10, 15_000) > 4000  # of CIFAR-10
    monkeypatch.setattr(pixels, "LOGISTIC_WORK", 6 * 64 * 3)
    data = dataset(n=60, n_validation=9)
    assert pixels.measure("logistic regression", data).images == 6
    monkeypatch.setattr(pixels, "LOGISTIC_WORK", 1)
    found = pixels.measure("logistic regression", data)
    assert (found.images, found.params) == (3, 3 * 65)
    images = np.arange(2 * 65 * 40 * 3).reshape(2, 65, 40, 3)
    small = pixels._small(images).reshape(2, 21, 13, 3)
    np.testing.assert_allclose(small[1, 2, 3], images[1, 6:9, 9:12].mean((0, 1)))
    np.testing.assert_array_equal(pixels._small(images[:, :8, :8]), images[:, :8, :8].reshape(2, -1))


def test_a_class_that_was_not_seen_is_not_answered():
    scores = np.array([[0.5, -0.5], [0.1, 0.2]])
    outputs = pixels._outputs(scores, np.array([0, 2]), 3, 3)
    assert outputs.argmax(1).tolist() == [0, 2]
    assert pixels._outputs(scores, np.array([0, 1]), 2, 1).ravel().tolist() == pytest.approx([-1, 0.1])

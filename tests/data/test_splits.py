import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnas.data import splits
from jaxnas.data.arrays import Part, Raw
from jaxnas.errors import InputError
from jaxnas.training import task as tasks

FRACTIONS = {"validation": 0.2, "test": 0.2}
labels_st = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(lambda x: np.array(x, np.int64))
seed_st = st.integers(0, 2**32 - 1)


def raw_of(labels, **others):
    parts = {"train": labels, **others}
    classes = tuple("abcde")[: int(labels.max()) + 1]
    return Raw(
        {split: Part(np.zeros((len(y), 1, 1), np.uint8), y) for split, y in parts.items()}, "", classes
    )


def divided(labels, fractions=FRACTIONS, limit=0, seed=0, task="multiclass", share=1.0, **others):
    chosen = splits.divide("src", raw_of(labels, **others), tasks.named(task), fractions, limit, seed, share)
    return {split: index for split, (_, index) in chosen.items()}


@given(labels_st, seed_st)
def test_spread_is_a_stratified_permutation(labels, seed):
    order = splits.spread(labels, seed, 0)
    assert sorted(order) == list(range(len(labels)))
    np.testing.assert_array_equal(order, splits.spread(labels, seed, 0))
    present = np.unique(labels)
    assert set(labels[order[: len(present)]]) == set(present)
    for end in range(len(labels)):
        share = np.bincount(labels[order[:end]], minlength=5) - np.bincount(labels, minlength=5) * end / len(
            labels
        )
        assert np.abs(share).max() <= len(present)


@given(labels_st, st.data())
def test_spread_leaves_out_minus_one(labels, draw):
    labels[: draw.draw(st.integers(0, len(labels) - 1))] = -1
    order = splits.spread(labels, 0, 0)
    np.testing.assert_array_equal(np.sort(order), np.flatnonzero(labels >= 0))


def test_spread_does_not_stratify_columns_and_varies_with_seed_and_stream():
    targets = np.zeros((50, 3), np.float32)
    orders = [splits.spread(targets, seed, stream) for seed, stream in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_spread_is_the_same_order_on_every_machine():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 0, 1, 0])
    assert splits.spread(labels, 0, 0).tolist() == [2, 4, 6, 7, 3, 5, 9, 0, 8, 1]


def test_a_share_is_a_stratified_part_of_each_split():
    labels = np.arange(100) % 4
    whole, part, less = (divided(labels, share=share) for share in (1.0, 0.5, 0.2))
    assert [len(part[split]) for split in ("train", "validation", "test")] == [30, 10, 10]
    for split in whole:
        assert set(less[split]) < set(part[split]) < set(whole[split])
    assert (np.bincount(labels[less["train"]]) == 3).all()
    limited = divided(labels, share=0.5, limit=7)
    assert {split: len(index) for split, index in limited.items()} == dict.fromkeys(whole, 7)


@given(
    st.lists(st.integers(0, 4), min_size=60, max_size=120),
    st.floats(0.05, 0.4),
    st.one_of(st.just(0.0), st.floats(0.05, 0.4)),
    st.integers(0, 80),
    seed_st,
)
def test_splits_are_disjoint_complete_and_deterministic(values, validation, test, limit, seed):
    labels = np.array([0, 1, 2, 3, 4, *values], np.int64)
    fractions = {"validation": validation, "test": test}
    whole = divided(labels, fractions, seed=seed)
    assert set(whole) == {"train", "validation", *(["test"] if test else [])}
    together = np.concatenate(list(whole.values()))
    assert sorted(together) == list(range(len(labels)))
    assert len(whole["validation"]) == round(validation * len(labels))
    assert set(labels[whole["train"]]) == set(range(5))
    again = divided(labels, fractions, seed=seed)
    for split, index in whole.items():
        assert (np.diff(index) > 0).all()
        np.testing.assert_array_equal(index, again[split])
    if limit >= 5:
        few = divided(labels, fractions, limit, seed)
        assert set(labels[few["train"]]) == set(range(5))
        for split, index in few.items():
            assert len(index) == min(limit, len(whole[split]))
            assert set(index) <= set(whole[split])


@given(st.integers(5, 40), st.integers(5, 40), seed_st)
def test_published_splits_are_kept(validation, test, seed):
    labels = np.arange(50) % 5
    whole = divided(labels, seed=seed, validation=np.arange(validation) % 5, test=np.arange(test) % 5)
    assert [len(whole[split]) for split in ("train", "validation", "test")] == [50, validation, test]
    cut = divided(labels, seed=seed, test=np.arange(test) % 5)
    assert [len(cut[split]) for split in ("train", "validation", "test")] == [40, 10, test]


def test_the_sizes_of_dlmairil():
    whole = divided(np.arange(4000) % 2, {"validation": 0.14, "test": 0.3})
    assert [len(whole[split]) for split in ("train", "validation", "test")] == [2240, 560, 1200]


def test_classes_are_renumbered_in_the_order_given():
    raw = splits.select("src", raw_of(np.array([0, 1, 2, 3, 4, 2])), (4, 2))
    assert raw.classes == ("e", "c")
    assert raw.parts["train"].labels.tolist() == [-1, -1, 1, -1, 0, 1]


def test_balanced_weights_by_hand():
    weights = splits.balanced_weights(np.array([0, 0, 0, 1]), 2)
    np.testing.assert_allclose(weights, [4 / 6, 4 / 2])
    assert weights.dtype == np.float32


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0, 0, 2, 2], {}, "src: class 'b' has no training image; list the others in data.classes"),
        (
            [0, 1, 2],
            {},
            r"src: 3 images cannot be split \(1 for train, 1 for validation, 1 for test\); train takes 3",
        ),
        (
            [0, 1],
            {"fractions": {"validation": 0.2}},
            r"\(2 for train, 0 for validation\); train takes 2, others 1",
        ),
        ([0, 1] * 9, {"limit": 1}, "data.limit: 1 leaves classes empty; it takes 0 or at least 2"),
        (
            [0, 1] * 9,
            {"share": 0.1},
            "data.fraction: 0.1 leaves 1 training images; src takes 2 for its classes",
        ),
        ([0, 1] * 9, {"fractions": {"validation": 0.9, "test": 0.9}}, "-14 for train"),
    ],
)
def test_what_cannot_be_divided(labels, options, message):
    with pytest.raises(InputError, match=message):
        divided(np.array(labels), **options)


@pytest.mark.parametrize("classes", [(5,), (-1, 0), (0, 0)])
def test_classes_that_cannot_be_kept(classes):
    with pytest.raises(InputError, match=r"data.classes: got -?\d in .* each of 0 to 4 at most once"):
        splits.select("src", raw_of(np.arange(5)), classes)


def test_a_published_split_without_the_kept_classes():
    with pytest.raises(InputError, match=r"src has no test image of \(0, 1\)"):
        splits.select("src", raw_of(np.arange(5), test=np.array([3, 4])), (0, 1))


@pytest.mark.parametrize(
    ("labels", "asked", "message"),
    [
        (np.arange(5), "binary", "'binary' takes 2 classes; src has 5: see data.classes"),
        (np.zeros(5, np.int64), None, "'multiclass' takes at least 2 classes; src has 1"),
        (
            np.arange(5),
            "multi_label",
            "'multi_label' does not fit src; it takes multiclass or binary or regression",
        ),
        (np.ones((5, 2), np.float32), "multiclass", "'multiclass' does not fit src; it takes regression"),
        (np.ones((5, 2), np.int64), "regression", "'regression' does not fit src; it takes multi_label"),
    ],
)
def test_tasks_that_do_not_fit(labels, asked, message):
    with pytest.raises(InputError, match=message):
        splits.resolve_task("src", raw_of(labels), asked)

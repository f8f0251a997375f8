"""Means over many searches and how sure they are: pure functions of arrays, S searches of N trials.

Intervals are percentile bootstraps over searches (Efron & Tibshirani, "An Introduction to the Bootstrap",
1993, section 13.3) of 10,000 resamples, with numbers from a fixed seed: equal arrays give equal intervals.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

DRAWS, AT_ONCE = 10_000, 500  # resamples, and how many of them are in memory at once
LEVEL = (0.025, 0.975)


class Mean(NamedTuple):
    """A mean over searches with its 95 % interval; NaN where no search has a value."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def mean(values: np.ndarray) -> Mean:  # [S, ...] → leaves [...]
    """The mean over searches, those without a value (NaN) left out."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    known = np.isfinite(flat)
    sums = np.where(known, flat, 0.0)
    with np.errstate(invalid="ignore"):
        drawn = np.concatenate([w @ sums / (w @ known) for w in _resamples(len(flat), 0)])
        value = sums.sum(axis=0) / known.sum(axis=0)
    return _interval(value, drawn, values.shape[1:])


def ratio(values: np.ndarray, base: np.ndarray) -> Mean:  # [S], [S′] → leaves []
    """The ratio of two means over searches, which are resampled apart."""
    pair = [x[np.isfinite(x)].astype(np.float64) for x in (values, base)]
    if not all(map(len, pair)):
        return Mean(*[np.full((), np.nan)] * 3)
    drawn = [np.concatenate([w @ x / len(x) for w in _resamples(len(x), i)]) for i, x in enumerate(pair)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return _interval(np.asarray(pair[0].mean() / pair[1].mean()), drawn[0] / drawn[1], ())


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953)."""
    z = 1.959964
    middle, width = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (middle - width) / (1 + z**2 / n), (middle + width) / (1 + z**2 / n)


def _resamples(n: int, stream: int) -> Iterator[np.ndarray]:  # → float64 [AT_ONCE, n], several times
    """How often each of n values is in a resample."""
    counts = _counts(n, stream)
    return (counts[first : first + AT_ONCE].astype(np.float64) for first in range(0, DRAWS, AT_ONCE))


@functools.lru_cache(maxsize=2)
def _counts(n: int, stream: int) -> np.ndarray:  # → uint8 [DRAWS, n]
    rng = np.random.default_rng((0, stream))
    drawn = [rng.multinomial(n, np.full(n, 1 / n), size=AT_ONCE) for _ in range(0, DRAWS, AT_ONCE)]
    return np.concatenate(drawn).astype(np.uint8)


def _interval(value: np.ndarray, drawn: np.ndarray, shape: tuple[int, ...]) -> Mean:
    whole = np.isfinite(drawn).all(axis=0)  # else some resample had no value at all
    low, high = np.quantile(np.where(whole, drawn, 0.0), LEVEL, axis=0)
    value, low, high = (np.where(np.isfinite(value), x, np.nan) for x in (value, low, high))
    low, high = (np.where(whole, x, np.nan) for x in (low, high))
    return Mean(*(np.reshape(x, shape) for x in (value, low, high)))


def best_so_far(reward: np.ndarray) -> np.ndarray:  # [S, N] → int64 [S, N]
    """The trial of the highest reward up to each trial, the first of equals; −1 before the first reward."""
    top = np.fmax.accumulate(np.where(np.isnan(reward), -np.inf, reward), axis=1)
    before = np.concatenate([np.full((len(reward), 1), -np.inf), top[:, :-1]], axis=1)
    trial = np.where(top > before, np.arange(reward.shape[1]), -1)
    return np.maximum.accumulate(trial, axis=1)


def at_best(values: np.ndarray, best: np.ndarray) -> np.ndarray:  # [S, N], int [S, ...] → float [S, ...]
    """A measure of the trials that `best_so_far` names; NaN where there is none."""
    flat = best.reshape(len(best), -1)
    taken = np.take_along_axis(values, np.maximum(flat, 0), axis=1)
    return np.where(flat >= 0, taken, np.nan).reshape(best.shape)


def ranks(values: np.ndarray) -> np.ndarray:  # [arms, ...] → int64 [arms, ...]
    """1 for the largest along the first axis; equals share the better rank, NaN comes last."""
    x = np.where(np.isnan(values), -np.inf, values)
    return 1 + (x[None, :] > x[:, None]).sum(axis=1)


def row_means(values: np.ndarray) -> np.ndarray:  # [S, N] → [S]
    """The mean of each search over its trials that have a value."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=1, dtype=np.float64) / known.sum(axis=1)


def shares(labels: np.ndarray, count: int) -> np.ndarray:  # int [S, M] → float64 [S, count]
    """How often each label is among a search's M; −1 is none, and does not count. NaN where all are −1."""
    hits = np.zeros((len(labels), count))
    rows, columns = np.nonzero(labels >= 0)
    np.add.at(hits, (rows, labels[rows, columns]), 1)
    with np.errstate(invalid="ignore"):
        return hits / hits.sum(axis=1, keepdims=True)


def top_distinct(reward: np.ndarray, kinds: np.ndarray, k: int) -> np.ndarray:  # [S, N], [S, N] → [S, k]
    """The trials of each search's k best distinct architectures; `kinds` numbers them. −1 where it has fewer.

    An architecture counts by its best trial; the earlier of equals comes first, a trial without reward never.
    """
    trials = np.full((len(reward), k), -1)
    for row, (values, kind) in enumerate(zip(reward, kinds, strict=True)):
        order = np.argsort(np.where(np.isnan(values), np.inf, -values), kind="stable")
        order = order[np.isfinite(values[order])]
        first = np.sort(np.unique(kind[order], return_index=True)[1])[:k]
        trials[row, : len(first)] = order[first]
    return trials

"""What the figures draw, as arrays."""

from collections.abc import Sequence

import numpy as np


def rolling_mean(values: np.ndarray, window: int) -> np.ndarray:  # [N] → [N − window + 1]
    """The mean of every `window` values in a row without the NaN among them; of all if there are fewer."""
    window, known = max(1, min(window, len(values))), np.isfinite(values)
    sums, counts = (np.cumsum(np.append(0.0, v)) for v in (np.where(known, values, 0.0), known))
    counts = counts[window:] - counts[:-window]
    return (sums[window:] - sums[:-window]) / np.where(counts > 0, counts, np.nan)


def pareto(cost: np.ndarray, value: np.ndarray) -> np.ndarray:  # [N], [N] → [F]
    """Indices of the points that no other beats, cheapest first; of equal points the first. No NaN."""
    order = np.lexsort((-value, cost))
    return order[records(value[order])]


def records(values: np.ndarray) -> np.ndarray:  # [N] → [R]
    """Indices of the values above all before them; NaN is above none."""
    return np.flatnonzero(values > np.fmax.accumulate(np.append(-np.inf, values))[:-1])


def shares(taken: np.ndarray, values: Sequence[str], ends: np.ndarray, window: int) -> np.ndarray:
    """How often each of V values is among the `window` entries of `taken` before each of P ends → [V, P]."""
    seen = np.stack([np.append(0, np.cumsum(taken == value)) for value in values])  # [V, N + 1]
    return (seen[:, ends] - seen[:, ends - window]) / window

"""Filters: which tokens can be drawn at all.

    logits → [top-k → top-p → min-p] → softmax → draw

A filter sets the logits of the tokens that it excludes to −∞, so their probability is 0 and the probabilities of the
others are larger by one factor. The filters can follow one another.

top-k: Fan, Lewis, Dauphin 2018, section 5; top-p: Holtzman et al. 2020, section 3.1; min-p: Nguyen et al. 2024,
section 3.
"""

from collections.abc import Iterable

import numpy as np

from npllm.core.checks import (
    as_floats,
    as_indices,
    check_integer,
    check_list,
    check_not_negative,
    check_number,
    check_shape,
)

BLOCK = 64  # logits
NUM_BINS, BINS_PER_UNIT = 4096, 100  # bins of 0.01; the last has all that is 40.95 and more below the largest logit
ROUNDING = 8.0  # in units of the dtype's ε: differences that small are taken for rounding errors


def top_k_filter(logits: np.ndarray, k: int) -> np.ndarray:
    """The k largest logits; −∞ for all others      (V) → (V)

    Exactly k: of equal logits those of the lower ids. Raises ValueError unless k ≥ 1.
    """
    return _keep(logits, top_k_ids(logits, k))


def top_k_ids(logits: np.ndarray, k: int) -> np.ndarray:
    """The ids that `top_k_filter` keeps, in ascending order      (V) → (k)"""
    logits = _without_nan(logits)
    k = check_integer("k", k, 1)
    if k >= len(logits):
        return np.arange(len(logits))
    candidates = logits[logits >= _bound(logits, k)]
    return _largest(logits, k, np.partition(candidates, -k)[-k])


def top_p_filter(logits: np.ndarray, p: float, tolerance: float | None = None) -> np.ndarray:
    """The fewest largest logits whose probabilities sum to at least p; −∞ for all others      (V) → (V)

    tolerance  a sum that is smaller than p by at most this much counts as p; the default is 8 ε of the dtype

    Probabilities 0.5, 0.3, 0.2 and p = 0.8: the first two reach p, although their sum in floating point may be smaller
    than 0.8 by a rounding error. At least one token is kept, and all with p = 1. Raises ValueError unless 0 < p ≤ 1.
    """
    return _keep(logits, top_p_ids(logits, p, tolerance))


def top_p_ids(logits: np.ndarray, p: float, tolerance: float | None = None) -> np.ndarray:
    """The ids that `top_p_filter` keeps, in ascending order      (V) → (K)

    Sorting all of 50,000 logits would take 4 ms. Here their probabilities are added up by bins of the logit, and only
    the bin in which the sum reaches p is sorted.
    """
    logits = _without_nan(logits)
    p = check_number("p", p)
    if not 0.0 < p <= 1.0:
        raise ValueError(f"p is {p}; it must be greater than 0 and at most 1")
    if p == 1.0:
        return np.arange(len(logits))
    tolerance = rounding_error(logits) if tolerance is None else check_not_negative("tolerance", tolerance)
    largest = float(logits.max(initial=-np.inf))
    if largest == -np.inf:  # no token has a probability
        return np.arange(len(logits))
    target = p - tolerance
    logits = logits.astype(np.float64, copy=False)
    with np.errstate(over="ignore"):
        below = largest - logits
        probabilities = np.exp(-below)
        probabilities /= probabilities.sum()
        below *= BINS_PER_UNIT
    bins = np.minimum(below, NUM_BINS - 1, out=below).astype(np.intp)
    sums = np.cumsum(np.bincount(bins, probabilities))
    last = min(int(np.searchsorted(sums, target, side="left")), len(sums) - 1)
    members = np.flatnonzero(bins == last)
    members = members[np.argsort(-logits[members], kind="stable")]
    cumulative = np.cumsum(probabilities[members]) + (sums[last - 1] if last else 0.0)
    num_kept = int(np.searchsorted(cumulative, target, side="left")) + 1
    is_kept = bins < last
    is_kept[members[:num_kept]] = True
    return np.flatnonzero(is_kept)


def min_p_filter(logits: np.ndarray, p: float, tolerance: float | None = None) -> np.ndarray:
    """The logits whose probability is at least p times the largest probability; −∞ for all others      (V) → (V)

    probabilityᵢ ≥ p · max probability  ⟺  logitᵢ ≥ max logit + ln p: no softmax is needed. A logit below this bound
    by at most `tolerance` is kept; the default is 8 ε of the dtype. p = 0 keeps all. Raises ValueError unless
    0 ≤ p ≤ 1.
    """
    return _keep(logits, min_p_ids(logits, p, tolerance))


def min_p_ids(logits: np.ndarray, p: float, tolerance: float | None = None) -> np.ndarray:
    """The ids that `min_p_filter` keeps, in ascending order      (V) → (K)"""
    logits = _without_nan(logits)
    p = check_number("p", p)
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p is {p}; it must be at least 0 and at most 1")
    if p == 0.0:
        return np.arange(len(logits))
    tolerance = rounding_error(logits) if tolerance is None else check_not_negative("tolerance", tolerance)
    bound = float(logits.max(initial=-np.inf)) + float(np.log(p)) - tolerance
    return np.flatnonzero(logits.astype(np.float64, copy=False) >= bound)


def exclude_ids(logits: np.ndarray, ids: Iterable[int]) -> np.ndarray:
    """−∞ for the given ids      (V) → (V)

    Such as the ids of a padded vocabulary, which have a logit but no token.
    """
    logits = as_logits(logits).copy()
    logits[as_indices("ids", check_list("ids", ids), 0, len(logits))] = -np.inf
    return logits


def as_logits(logits: np.ndarray) -> np.ndarray:
    """Return the logits as an array; raise TypeError or ValueError unless they are floating point of the shape (V)."""
    logits = as_floats(logits=logits)
    check_shape("logits", logits, "(V)")
    return logits


def _without_nan(logits: np.ndarray) -> np.ndarray:
    """The logits (V); raises ValueError for nan and +∞, which have no order or no probability."""
    logits = as_logits(logits)
    largest = logits.max(initial=-np.inf)
    if not largest < np.inf:
        raise ValueError(f"the largest of the logits is {largest}; they must be finite or −∞")
    return logits


def rounding_error(logits: np.ndarray) -> float:
    """8 ε of the dtype: 9.5e-7 in float32, 1.8e-15 in float64."""
    return ROUNDING * float(np.finfo(logits.dtype).eps)


def _bound(logits: np.ndarray, k: int) -> np.ndarray:
    """A number that at least k logits reach: the k-th largest of the maxima of blocks, where there are that many.

    The maximum of each block reaches its own, so k blocks have a logit that reaches the k-th largest. To find it takes
    a tenth of the time that `np.partition` takes for 50,000 logits.
    """
    starts = np.arange(0, len(logits), BLOCK)
    if k > len(starts):
        return logits.min()
    return np.partition(np.maximum.reduceat(logits, starts), -k)[-k]


def _largest(logits: np.ndarray, k: int, kth: np.ndarray) -> np.ndarray:
    """The ids of the k largest logits in ascending order, the k-th of which is `kth`; of equal ones the lower ids."""
    larger = np.flatnonzero(logits > kth)
    equal = np.flatnonzero(logits == kth)
    return np.sort(np.concatenate([larger, equal[: k - len(larger)]]))


def _keep(logits: np.ndarray, kept: np.ndarray) -> np.ndarray:
    logits = as_logits(logits)
    filtered = np.full_like(logits, -np.inf)
    filtered[kept] = logits[kept]
    return filtered

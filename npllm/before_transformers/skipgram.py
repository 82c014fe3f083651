"""Training data of word2vec: pairs of a word and its context, subsampling, and negative samples.

    ids → [subsample] → [pairs of a word and a context word] → SkipGram, CBOW

Words that occur in similar contexts get similar vectors ("you shall know a word by the company it keeps", Firth 1957).
No labels are needed, only text.

Mikolov, Chen, Corrado, Dean 2013, Efficient Estimation of Word Representations in Vector Space (windows); Mikolov,
Sutskever, Chen, Corrado, Dean 2013, Distributed Representations of Words and Phrases, sections 2.2 (negative sampling)
and 2.3 (subsampling).
"""

from collections.abc import Sequence

import numpy as np

from npllm.core.checks import MAX_SIZE, as_indices, check_above_zero, check_integer, check_number, check_positive
from npllm.core.module import as_generator


def skip_gram_pairs(ids: np.ndarray, window_size: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of a center word and a context word at most `window_size` positions away      (N) → (P), (P)

    Returns the center words, which SkipGram gets, and the context words, which it predicts; P ≈ 2 · window_size · N.
    """
    ids = _check_ids(ids, window_size)
    centers, contexts = [], []
    for distance in range(1, min(window_size, len(ids)) + 1):
        left, right = ids[:-distance], ids[distance:]
        centers += [left, right]  # each word is in the context of the other
        contexts += [right, left]
    return np.concatenate([ids[:0], *centers]), np.concatenate([ids[:0], *contexts])


def cbow_windows(ids: np.ndarray, window_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The `window_size` words before and after each word      (N) → (M, 2·window_size), (M)

    Returns the context words, which CBOW gets, and the center words, which it predicts; M = N − 2 · window_size: only
    words with a whole window on both sides are used.
    """
    ids = _check_ids(ids, window_size)
    if len(ids) <= 2 * window_size:
        raise ValueError(f"ids has {len(ids)} words; it must have more than {2 * window_size}, twice the window_size")
    windows = np.lib.stride_tricks.sliding_window_view(ids, 2 * window_size + 1)
    return np.delete(windows, window_size, axis=1), windows[:, window_size].copy()


def subsample(ids: np.ndarray, threshold: float, *, rng: np.random.Generator) -> np.ndarray:
    """Drop frequent words at random: a word of frequency f is kept with probability min(1, √(threshold / f)).

    Very frequent words such as "the" are in almost every context and carry little information about it. Without them,
    a window also reaches further.
    """
    check_above_zero("threshold", threshold)
    _require_generator(rng)
    ids = _check_ids(ids, 1)
    as_indices("ids", ids, 0, 2**31)
    frequencies = np.bincount(ids) / max(len(ids), 1)
    with np.errstate(divide="ignore"):
        keep_probability = np.sqrt(threshold / frequencies)
    return ids[rng.random(len(ids)) < keep_probability[ids]]


class NegativeSampler:
    """Draws word ids with p(w) = count(w)^¾ / Σ count^¾.

    A power of 1 gives the words' own frequencies, a power of 0 the uniform distribution; ¾ worked best in the paper.
    """

    def __init__(self, counts: Sequence[int] | np.ndarray, power: float = 0.75) -> None:
        counts = np.asarray(counts)
        if counts.dtype.kind not in "fiu":
            raise TypeError(f"counts has dtype {counts.dtype}; it must be an integer dtype")
        counts = counts.astype(np.float64)
        check_number("power", power)
        if counts.ndim != 1 or not ((counts >= 0) & (counts < np.inf)).all() or not counts.any():
            raise ValueError("counts must be a count of at least 0 for each word, and not all of them 0")
        weights = np.where(counts > 0, counts, 1.0) ** power * (counts > 0)  # a word with count 0 is never drawn
        self.probabilities = weights / weights.sum()
        self.cumulative = np.cumsum(self.probabilities)
        self.cumulative /= self.cumulative[-1]

    def sample(self, shape: int | tuple[int, ...], *, rng: np.random.Generator) -> np.ndarray:
        """Ids of this shape: word w is drawn where a uniform number is in [cumulative[w − 1], cumulative[w])."""
        _require_generator(rng)
        for size in shape if isinstance(shape, (tuple, list)) else [shape]:
            if check_integer("shape", size, 0) >= MAX_SIZE:
                raise ValueError(f"shape is {shape}; each size must be less than {MAX_SIZE}")
        return np.searchsorted(self.cumulative, rng.random(shape), side="right")


def _check_ids(ids: np.ndarray, window_size: int) -> np.ndarray:
    check_positive(window_size=window_size)
    ids = np.asarray(ids)
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise TypeError(f"ids has shape {ids.shape} and dtype {ids.dtype}; it must be one-dimensional, of integers")
    return ids


def _require_generator(rng: np.random.Generator) -> None:
    if rng is None:
        raise TypeError("rng is None; it must be a numpy.random.Generator, such as np.random.default_rng(0)")
    as_generator(rng)

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


def skip_gram_pairs(ids: np.ndarray, window_size: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of a center word and a context word at most `window_size` positions away      (N) → (P), (P)

    Returns the center words, which SkipGram gets, and the context words, which it predicts; P ≈ 2 · window_size · N.
    """
    ids = _check_ids(ids, window_size)
    centers, contexts = [], []
    for distance in range(1, window_size + 1):
        left, right = ids[:-distance], ids[distance:]
        centers += [left, right]  # each word is in the context of the other
        contexts += [right, left]
    return np.concatenate(centers), np.concatenate(contexts)


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
    if not threshold > 0:
        raise ValueError(f"threshold is {threshold}; it must be greater than 0")
    ids = np.asarray(ids)
    frequencies = np.bincount(ids) / max(len(ids), 1)
    with np.errstate(divide="ignore"):
        keep_probability = np.sqrt(threshold / frequencies)
    return ids[rng.random(len(ids)) < keep_probability[ids]]


class NegativeSampler:
    """Draws word ids with p(w) = count(w)^¾ / Σ count^¾.

    A power of 1 gives the words' own frequencies, a power of 0 the uniform distribution; ¾ worked best in the paper.
    """

    def __init__(self, counts: Sequence[int] | np.ndarray, power: float = 0.75) -> None:
        counts = np.asarray(counts, np.float64)
        if counts.ndim != 1 or not (counts >= 0).all() or not counts.any():
            raise ValueError("counts must be a count of at least 0 for each word, and not all of them 0")
        weights = np.where(counts > 0, counts, 1.0) ** power * (counts > 0)  # a word with count 0 is never drawn
        self.probabilities = weights / weights.sum()
        self.cumulative = np.cumsum(self.probabilities)
        self.cumulative /= self.cumulative[-1]

    def sample(self, shape: int | tuple[int, ...], *, rng: np.random.Generator) -> np.ndarray:
        """Ids of this shape: word w is drawn where a uniform number is in [cumulative[w − 1], cumulative[w])."""
        return np.searchsorted(self.cumulative, rng.random(shape), side="right")


def _check_ids(ids: np.ndarray, window_size: int) -> np.ndarray:
    if window_size < 1:
        raise ValueError(f"window_size is {window_size}; it must be at least 1")
    ids = np.asarray(ids)
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise TypeError(f"ids has shape {ids.shape} and dtype {ids.dtype}; it must be one-dimensional, of integers")
    return ids

"""A word and the words around it: what word vectors are learned from.

    ids → [pairs of a word and a neighbour] → vectors

"You shall know a word by the company it keeps" (Firth 1957): words that keep the same company should get vectors that
lie close together, and nobody need label anything.

Mikolov, Chen, Corrado, Dean 2013 (windows); Mikolov, Sutskever, Chen, Corrado, Dean 2013, sections 2.2 (negative
samples) and 2.3 (subsampling).
"""

import numpy as np


def skip_gram_pairs(ids, window):
    """Every pair of a word and a neighbour at most `window` places away      (N) → (P), (P)

    Returns the words in the middle and the neighbours, which a skip-gram model is to guess. P is about 2 · window · N.
    """
    ids = _stream(ids, window)
    middles, neighbours = [], []
    for distance in range(1, window + 1):
        left, right = ids[:-distance], ids[distance:]
        middles += [left, right]  # each is the neighbour of the other
        neighbours += [right, left]
    return np.concatenate(middles), np.concatenate(neighbours)


def cbow_windows(ids, window):
    """The `window` words on either side of every word that has as many      (N) → (M, 2·window), (M)

    Returns the words around and the words in the middle, which a CBOW model is to guess; M = N − 2 · window.
    """
    ids = _stream(ids, window)
    if len(ids) <= 2 * window:
        raise ValueError(f"ids has {len(ids)} words; it must have more than {2 * window}, a window on either side")
    windows = np.lib.stride_tricks.sliding_window_view(ids, 2 * window + 1)
    return np.delete(windows, window, axis=1), windows[:, window].copy()


def subsample(ids, threshold, rng):
    """Leave out frequent words at random: one of frequency f stays with the probability √(threshold / f), at most 1.

    "the" is the neighbour of everything and says little of any; without it the window reaches further, too.
    """
    if not threshold > 0:
        raise ValueError(f"threshold is {threshold}; it must be greater than 0")
    ids = np.asarray(ids)
    frequencies = np.bincount(ids) / max(len(ids), 1)
    with np.errstate(divide="ignore"):
        keep = np.sqrt(threshold / frequencies)
    return ids[rng.random(len(ids)) < keep[ids]]


class NegativeSampler:
    """Draws words with p(w) = count(w)^¾ / Σ count^¾.

    Between the words' own frequencies (power 1) and all words alike (power 0): the paper found ¾ to be best.
    """

    def __init__(self, counts, power=0.75):
        counts = np.asarray(counts, np.float64)
        if counts.ndim != 1 or not (counts >= 0).all() or not counts.any():
            raise ValueError("counts must be a count of at least 0 for each word, and not all of them 0")
        weights = np.where(counts > 0, counts, 1.0) ** power * (counts > 0)  # a word that never came is never drawn
        self.probabilities = weights / weights.sum()
        self.ends = np.cumsum(self.probabilities)
        self.ends /= self.ends[-1]

    def draw(self, shape, rng):
        """Ids of this shape: a random number in [0, 1) falls into the stretch that belongs to a word."""
        return np.searchsorted(self.ends, rng.random(shape), side="right")


def _stream(ids, window):
    if window < 1:
        raise ValueError(f"window is {window}; it must be at least 1")
    ids = np.asarray(ids)
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise TypeError(f"ids has shape {ids.shape} and dtype {ids.dtype}; it must be a row of integers")
    return ids

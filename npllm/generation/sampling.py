"""Sampling: how one token is drawn from the model's distribution.

    logits → [repetition penalty → temperature → top-k → top-p → softmax → draw] → id

Each filter sets the logits of the excluded tokens to −∞, so filters can follow one another.

Temperature: Ackley, Hinton, Sejnowski 1985; top-k: Fan, Lewis, Dauphin 2018, section 5; top-p: Holtzman et al. 2020,
section 3.1; penalty: Keskar et al. 2019 (CTRL), section 4.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npllm.core.checks import as_floats, as_indices
from npllm.layers.softmax import softmax


@dataclass(frozen=True)
class Sampling:
    """How to choose the next token; the defaults draw from the model's own distribution.

    temperature         divides the logits; 0 takes the largest logit (greedy)
    top_k               only the k largest logits
    top_p               only the fewest tokens whose probabilities sum to at least p
    repetition_penalty  above 1 makes every token less likely that is in the sequence already
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0

    def next_id(self, logits: np.ndarray, ids: Sequence[int], rng: np.random.Generator) -> int:
        """Draw the token that follows `ids`      (V) → an int"""
        if self.repetition_penalty != 1.0:
            logits = penalize_repetition(logits, ids, self.repetition_penalty)
        return sample(logits, rng, self.temperature, self.top_k, self.top_p)


def penalize_repetition(logits: np.ndarray, ids: Sequence[int], penalty: float) -> np.ndarray:
    """y = logit / penalty where positive, logit · penalty where negative, for every id in ids      (V), (N) → (V)

    With a penalty above 1 the ids become less likely; 1 changes nothing. Raises ValueError unless penalty > 0.
    """
    logits = as_floats(logits=logits)
    if not penalty > 0:
        raise ValueError(f"penalty is {penalty}; it must be greater than 0")
    if len(ids) == 0:
        return logits.copy()
    used = np.unique(as_indices("ids", ids, 0, len(logits)))
    penalized = logits.copy()
    penalized[used] = np.where(logits[used] > 0, logits[used] / float(penalty), logits[used] * float(penalty))
    return penalized


def top_k_filter(logits: np.ndarray, k: int) -> np.ndarray:
    """The k largest logits; −∞ for all others      (V) → (V)

    Exactly k: of equal logits those of the lower ids. Raises ValueError unless k ≥ 1.
    """
    logits = as_floats(logits=logits)
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    return _keep(logits, _descending(logits)[:k])


def top_p_filter(logits: np.ndarray, p: float) -> np.ndarray:
    """The fewest largest logits whose probabilities sum to at least p; −∞ for all others      (V) → (V)

    At least one. Raises ValueError unless 0 < p ≤ 1.
    """
    logits = as_floats(logits=logits)
    if not 0.0 < p <= 1.0:
        raise ValueError(f"p is {p}; it must be greater than 0 and at most 1")
    order = _descending(logits)
    probabilities = softmax(logits[order].astype(np.float64))
    before = np.cumsum(probabilities) - probabilities  # the sum of the larger ones
    return _keep(logits, order[before < p])


def sample(
    logits: np.ndarray,
    rng: np.random.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> int:
    """Draw an id with the probabilities softmax(logits / temperature), after the filters      (V) → an int

    temperature 0 takes the largest logit (of equal ones the lowest id) and draws nothing. Raises ValueError for a
    negative temperature, and for logits that are nan or have no finite maximum.
    """
    logits = as_floats(logits=logits)
    if not temperature >= 0:
        raise ValueError(f"temperature is {temperature}; it must be at least 0")
    if np.isnan(logits).any() or not np.isfinite(logits.max(initial=-np.inf)):
        raise ValueError("the logits have no finite maximum; the model's weights may have overflowed")
    if temperature == 0:
        return int(logits.argmax())
    logits = logits.astype(np.float64) / temperature
    if top_k is not None:
        logits = top_k_filter(logits, top_k)
    if top_p is not None:
        logits = top_p_filter(logits, top_p)
    cumulative = np.cumsum(softmax(logits))
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))


def _descending(logits: np.ndarray) -> np.ndarray:
    """Ids by descending logit, equal ones by ascending id."""
    return np.argsort(-logits, kind="stable")


def _keep(logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    kept = np.full_like(logits, -np.inf)
    kept[ids] = logits[ids]
    return kept

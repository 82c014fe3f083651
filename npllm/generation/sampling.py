"""Sampling: one token drawn from what the model believes, more boldly or more cautiously.

    logits → [penalty → temperature → top-k → top-p → softmax → draw] → id

Each filter sets the logits of what it forbids to −∞, so the filters can be put in a row.

Temperature: Ackley, Hinton, Sejnowski 1985; top-k: Fan, Lewis, Dauphin 2018, section 5; top-p: Holtzman et al. 2020,
section 3.1; penalty: Keskar et al. 2019 (CTRL), section 4.1.
"""

import numpy as np

from npllm.core.checks import as_floats, as_indices
from npllm.layers.softmax import softmax


def penalize_repetition(logits, ids, penalty):
    """logit / penalty where positive, logit · penalty where negative, for every id in ids      (V), (N) → (V)

    Whatever was said becomes less likely (penalty > 1); 1 changes nothing. Raises ValueError unless penalty > 0.
    """
    logits = as_floats(logits=logits)
    if not penalty > 0:
        raise ValueError(f"penalty is {penalty}; it must be greater than 0")
    if len(ids) == 0:
        return logits
    said = np.unique(as_indices("ids", ids, 0, len(logits)))
    penalized = logits.copy()
    penalized[said] = np.where(logits[said] > 0, logits[said] / float(penalty), logits[said] * float(penalty))
    return penalized


def keep_top_k(logits, k):
    """The k largest logits, −∞ for all others      (V) → (V)

    Exactly k of them: of equal ones the lower ids. Raises ValueError unless k ≥ 1.
    """
    logits = as_floats(logits=logits)
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    return _keep(logits, _by_size(logits)[:k])


def keep_top_p(logits, p):
    """The fewest largest logits whose probabilities add up to at least p, −∞ for all others      (V) → (V)

    At least one. Raises ValueError unless 0 < p ≤ 1.
    """
    logits = as_floats(logits=logits)
    if not 0.0 < p <= 1.0:
        raise ValueError(f"p is {p}; it must be greater than 0 and at most 1")
    order = _by_size(logits)
    probabilities = softmax(logits[order].astype(np.float64))
    before = np.cumsum(probabilities) - probabilities  # how much the larger ones have
    return _keep(logits, order[before < p])


def sample(logits, rng, temperature=1.0, top_k=None, top_p=None):
    """Draw an id with the probabilities softmax(logits / temperature), after the filters      (V) → an int

    temperature 0 takes the largest logit (the lower id of equals) and draws nothing. `rng` is a
    numpy.random.Generator. Raises ValueError for a negative temperature, and where the logits are not numbers or all
    −∞.
    """
    logits = as_floats(logits=logits)
    if not temperature >= 0:
        raise ValueError(f"temperature is {temperature}; it must be 0 or more")
    if np.isnan(logits).any() or not np.isfinite(logits.max(initial=-np.inf)):
        raise ValueError("logits have no largest finite number; the model's weights may have overflowed")
    if temperature == 0:
        return int(logits.argmax())
    logits = logits.astype(np.float64) / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    reached = np.cumsum(softmax(logits))
    return int(np.searchsorted(reached, rng.random() * reached[-1], side="right"))


def _by_size(logits):
    """Ids by falling logit, equal ones by rising id."""
    return np.argsort(-logits, kind="stable")


def _keep(logits, ids):
    kept = np.full_like(logits, -np.inf)
    kept[ids] = logits[ids]
    return kept

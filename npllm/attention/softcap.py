"""Soft-capped scores: no score leaves the interval (−cap, cap), and every score keeps a gradient.

    scores = q kᵀ · scale → cap · tanh(scores / cap) → + bias, mask → softmax → …

Near 0 the cap changes nothing; far from 0, the capped score approaches ±cap. A few very large scores can then no longer
get all of the weight.

Bello et al. 2016, Neural Combinatorial Optimization with Reinforcement Learning, appendix A.1; Gemma Team 2024,
Gemma 2, section 2.
"""

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_gradient, check_real


def softcap(scores: np.ndarray, cap: float) -> np.ndarray:
    """y = cap · tanh(scores / cap)      (...) → (...)

    Raises ValueError unless `cap` is positive and finite in the dtype of the scores.
    """
    return softcap_forward(scores, cap)[0]


def softcap_forward(scores: np.ndarray, cap: float) -> tuple[np.ndarray, Cache]:
    """y, and a cache of tanh(scores / cap)."""
    scores = as_floats(scores=scores)
    cap = check_cap(cap, scores.dtype)
    tanh = np.tanh(scores / cap)
    return cap * tanh, Cache(tanh=tanh)


def softcap_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dscores = dy (1 − tanh²)      (...) → (...)

    tanh′ = 1 − tanh², and the factors cap and 1/cap cancel.
    """
    return check_gradient(dy, cache.tanh.shape, cache.tanh.dtype) * (1.0 - cache.tanh * cache.tanh)


def check_cap(cap: float, dtype: np.dtype) -> float:
    """Return the cap as a float; raise ValueError unless it is positive and finite in this dtype."""
    limits = np.finfo(dtype)
    check_real("softcap, the cap,", cap)
    if not float(limits.tiny) <= cap <= float(limits.max):
        raise ValueError(f"softcap is {cap}; it must be greater than 0 and finite in {dtype}, or None for no cap")
    return float(cap)

"""Attention with a soft cap, a mask that may be a rule, and a bias that may be a table: the plain form.

This is the core of scaled_dot_product.py with the rule and the table made into arrays. tiled.py computes the same.
"""

import numpy as np

from npllm.attention.distance_bias import DistanceBias
from npllm.attention.mask_rule import MaskRule
from npllm.attention.scaled_dot_product import attend_backward, attend_forward, scores_backward, scores_forward
from npllm.attention.softcap import softcap_backward, softcap_forward
from npllm.core.cache import Cache


def plain_attention_forward(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | MaskRule | None = None,
    bias: np.ndarray | DistanceBias | None = None,
    scale: float | None = None,
    dropout_mask: np.ndarray | None = None,
    softcap: float | None = None,
) -> tuple[np.ndarray, Cache]:
    """y = softmax(cap(q kᵀ · scale) + bias where mask) v      (..., T, D), (..., S, D), (..., S, E) → (..., T, E)

    The cache is that of `attention`; `cap` is that of the soft cap, and `table` the DistanceBias, if there is one.
    """
    scores, products = scores_forward(q, k, scale)
    cap = None
    if softcap is not None:
        scores, cap = softcap_forward(scores, softcap)
    mask = mask.array() if isinstance(mask, MaskRule) else mask
    table, bias = (bias, bias.array()) if isinstance(bias, DistanceBias) else (None, bias)
    y, average = attend_forward(scores, v, mask, bias, dropout_mask)
    return y, Cache(**vars(products), **vars(average), cap=cap, table=table)


def plain_attention_backward(dy: np.ndarray, cache: Cache) -> tuple[np.ndarray, ...]:
    """dq, dk, dv, and dbias where there was a bias      (..., T, E) → (..., T, D), (..., S, D), (..., S, E)

    For a DistanceBias dbias is the gradient of its table, (H, N).
    """
    dscores, dv, *dbias = attend_backward(dy, cache)
    if cache.table is not None:
        dbias = [cache.table.table_gradient(dbias[0])]
    if cache.cap is not None:
        dscores = softcap_backward(dscores, cache.cap)
    dq, dk = scores_backward(dscores, cache)
    return dq, dk, dv, *dbias

"""Which algorithm computes attention: the plain form for short sequences, tiles for long ones.

    q, k, v, mask, bias → [plain or tiled] → y

Both give the same numbers up to rounding. The plain form computes all heads by one call of each function of NumPy; its
time and its memory grow with T · S. Tiles cost many calls for each head and little memory. From about 32,000 pairs of
query and key on, tiles are faster. `attention_path` forces one of the two.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from npllm.attention.distance_bias import DistanceBias
from npllm.attention.mask_rule import MaskRule
from npllm.attention.plain import plain_attention_backward, plain_attention_forward
from npllm.attention.tiled import TiledCache, tiled_attention_backward, tiled_attention_forward
from npllm.core.cache import Cache

MIN_QUERIES = 32  # fewer make the matrix products of a tile too thin
MIN_PAIRS = 192 * 192  # pairs of query and key in a head, T · S

_forced: ContextVar[str | None] = ContextVar("attention_path", default=None)


@contextmanager
def attention_path(path: str | None) -> Iterator[None]:
    """A context in which attention takes the path "plain" or "tiled"; None chooses by size.

    The plain path keeps the attention weights in its cache; `weights` of a tiled cache are computed when they are read.
    """
    if path not in ("plain", "tiled", None):
        raise ValueError(f'path is {path!r}; it must be "plain", "tiled" or None')
    token = _forced.set(path)
    try:
        yield
    finally:
        _forced.reset(token)


def forced_path() -> str | None:
    """The path that `attention_path` forces, "plain" or "tiled"; None where the size decides."""
    return _forced.get()


def masked_attention_forward(
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

    The arguments of `attention`; the mask may be a rule, the bias a table, and softcap caps the scores. The cache has
    q, k, v and `weights`.
    """
    forward = tiled_attention_forward if _is_tiled(np.shape(q), np.shape(k)) else plain_attention_forward
    return forward(q, k, v, mask, bias, scale, dropout_mask, softcap)


def masked_attention_backward(dy: np.ndarray, cache: Cache) -> tuple[np.ndarray, ...]:
    """dq, dk, dv, and dbias where there was a bias      (..., T, E) → (..., T, D), (..., S, D), (..., S, E)"""
    backward = tiled_attention_backward if isinstance(cache, TiledCache) else plain_attention_backward
    return backward(dy, cache)


def _is_tiled(q_shape: tuple[int, ...], k_shape: tuple[int, ...]) -> bool:
    path = forced_path()
    if path is not None or min(len(q_shape), len(k_shape)) < 2:  # the plain form reports the wrong shape
        return path == "tiled"
    return q_shape[-2] >= MIN_QUERIES and q_shape[-2] * k_shape[-2] >= MIN_PAIRS

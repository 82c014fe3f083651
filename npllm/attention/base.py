"""What the attention layers share: linear maps of one input, the split into heads, positions and the causal mask.

x → q, k, v → split into heads → [attention] → join the heads → output projection
"""

from collections.abc import Sequence

import numpy as np

from npllm.attention.kv_cache import KVCache, SequenceState
from npllm.attention.masks import document_mask, document_positions, position_mask
from npllm.core.cache import Cache
from npllm.core.checks import as_array, as_sequence, check_context_length, check_instance
from npllm.core.module import Module
from npllm.layers.linear import Linear


class Attention(Module):
    """An attention layer. Its cache holds that of the core under the name `attention`."""

    def attention_weights(self, x: np.ndarray) -> np.ndarray:
        """The weights behind `self(x)`, (..., T, S): row t is the distribution of query t over the keys."""
        return self.forward(x)[1].attention.weights


def project_forward(x: np.ndarray, layers: Sequence[Linear]) -> tuple[list[np.ndarray], list[Cache]]:
    """The outputs of several linear maps of the same x, such as q, k and v; and their caches."""
    outputs, caches = zip(*(layer.forward(x) for layer in layers))
    return list(outputs), list(caches)


def project_backward(gradients: Sequence[np.ndarray], caches: Sequence[Cache], layers: Sequence[Linear]) -> np.ndarray:
    """dx = Σᵢ dyᵢ Wᵢ: all maps have the same input, so its gradients add up."""
    dx = layers[0].backward(gradients[0], caches[0])
    for layer, gradient, cache in zip(layers[1:], gradients[1:], caches[1:]):
        dx = dx + layer.backward(gradient, cache)
    return dx


def split_heads(x: np.ndarray, num_heads: int) -> np.ndarray:
    """Split the channels into heads: (..., T, H·D) → (..., H, T, D).

    First the channels are split, then the axes are swapped. Reshaping straight to (..., H, T, D) would have the right
    shape and mix positions into heads.
    """
    *batch, length, channels = x.shape
    return x.reshape(*batch, length, num_heads, channels // num_heads).swapaxes(-3, -2)


def join_heads(x: np.ndarray) -> np.ndarray:
    """Undo split_heads: (..., H, T, D) → (..., T, H·D)."""
    *batch, num_heads, length, head_dim = x.shape
    return x.swapaxes(-3, -2).reshape(*batch, length, num_heads * head_dim)


def query_positions(
    x: np.ndarray,
    context_length: int,
    kv_cache: SequenceState | None = None,
    document_ids: np.ndarray | None = None,
    kinds: tuple[type, ...] = (KVCache,),
) -> np.ndarray:
    """The position of every query: from 0, or from the number of cached columns, or counted in each document.

    (..., T, C) → (T), or with an axis for the heads (..., 1, T). `kinds` are the classes that the kv_cache may have.
    Raises ValueError beyond the context_length, and for document_ids together with a kv_cache: a sequence that is
    processed in chunks is one document.
    """
    length = as_sequence(x).shape[-2]
    if kv_cache is not None:
        if document_ids is not None:
            raise ValueError("document_ids and kv_cache are both set; with a kv_cache document_ids must be None")
        check_instance("kv_cache", kv_cache, *kinds)
        return kv_cache.positions(length)
    check_context_length(length, context_length)
    return np.arange(length) if document_ids is None else document_positions(document_ids)


def per_head(document_ids: np.ndarray | None, x: np.ndarray) -> np.ndarray | None:
    """Document ids (..., T) of x (..., T, C), with an axis for the heads: (..., 1, T). None stays None.

    Raises ValueError unless there is one id for each position of x.
    """
    if document_ids is None:
        return None
    document_ids, shape = as_array("document_ids", document_ids), np.shape(x)[:-1]
    if document_ids.shape not in (shape, shape[-1:]):
        raise ValueError(
            f"document_ids has shape {document_ids.shape}; it must have one id for each position of x, {shape}"
        )
    return document_ids[..., None, :]


def attention_mask(
    positions: np.ndarray,
    key_positions: np.ndarray,
    document_ids: np.ndarray | None = None,
    window: int | None = None,
    sinks: int = 0,
) -> np.ndarray | None:
    """True where a query may attend: causal, within the window and the document      (..., T), (..., S) → (..., T, S)

    None if every query attends to every key: for a single new token without padding or window.
    """
    if positions.shape == (1,) and window is None and document_ids is None:
        return None
    mask = position_mask(positions, key_positions, window, sinks)
    return mask if document_ids is None else mask & document_mask(document_ids)


document_ids_per_head = per_head  # until the variants use the functions above


def reject_document_ids(document_ids):
    """Raise ValueError for document ids together with a kv_cache."""
    if document_ids is not None:
        raise ValueError("document_ids and kv_cache are both set; with a kv_cache document_ids must be None")

"""Small options of attention: QK norm, sliding window, sparse masks and the output gate.

    x → q, k, v → [QK norm] → RoPE → scores → soft cap → bias → [window, sparse mask] → softmax → context → [gate] → y

QK norm. RMS norm of the queries and keys, of each head or of all heads together, before their dot product. A score is
|q| |k| cos(angle); if the lengths grow in training, softmax saturates. With the norm of each head a score depends on
the angle and on a learned scale.

Sliding window. Position t attends only to the last `size` positions, so cost and memory grow with the window instead of
the text. The receptive field of L layers is L windows. The first positions ("sinks") may stay visible: softmax weights
must add up to 1, models learn to put what they do not need on the first tokens, and break down without them.

Sparse masks. A fixed pattern on all pairs of positions: strided, or whole blocks. Attention in tiles (see tiled.py)
skips the tiles in which no pair is visible, and sorts the keys of a strided pattern into few tiles (small_tiles.py);
the plain form computes all T × S scores and masks them.

Output gate. The context is multiplied by sigmoid(x W_gateᵀ), elementwise. A head can then contribute nothing, which
softmax weights, adding up to 1, cannot express; and the value and output projections no longer compose to one linear
map.

Henry et al. 2020, Query-Key Normalization for Transformers; Qwen3 2025, section 2; OLMo Team 2024, 2 OLMo 2 Furious,
section 3.3. Beltagy et al. 2020, Longformer, section 3.1; Jiang et al. 2023, Mistral 7B, section 2; Xiao et al. 2023,
Efficient Streaming Language Models with Attention Sinks, section 3.2. Child et al. 2019, Sparse Transformers, section
4.3; Zaheer et al. 2020, Big Bird, section 2. Qiu et al. 2025, Gated Attention for Large Language Models, section 2.2.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from npllm.attention.mask_rule import Distances, Range
from npllm.attention.masks import block_mask, strided_mask
from npllm.core.cache import Cache
from npllm.core.checks import check_integer, check_list, check_not_negative, check_positive
from npllm.layers.activations import sigmoid_backward, sigmoid_forward


@dataclass(frozen=True)
class QKNorm:
    """q ← q / rms(q) · w_q,  k ← k / rms(k) · w_k

    eps           is added to the mean square; see RMSNorm
    over          "head": of each head's D channels, with weights (D) that all heads share, as in Qwen3 and Gemma 3;
                  "projection": of all channels of q, and of k, before the split into heads, as in OLMo 2
    unit_offset   the scales are 1 + w, as in Gemma
    """

    eps: float = 1e-6
    over: Literal["head", "projection"] = "head"
    unit_offset: bool = False

    def __post_init__(self) -> None:
        check_not_negative("eps", self.eps)
        if not isinstance(self.over, str) or self.over not in ("head", "projection"):
            raise ValueError(f'over is {self.over!r}; it must be "head" or "projection"')


@dataclass(frozen=True)
class SlidingWindow:
    """S_ts ← −∞ unless t − s < size or s < num_sink_tokens      (T, S) → (T, S)"""

    size: int
    num_sink_tokens: int = 0

    def __post_init__(self) -> None:
        check_positive(size=self.size)
        check_integer("num_sink_tokens", self.num_sink_tokens, 0)


@dataclass(frozen=True)
class StridedMask:
    """S_ts ← −∞ unless t − s < stride or (t − s) mod stride = 0      (T, S) → (T, S)"""

    stride: int

    def __post_init__(self) -> None:
        check_positive(stride=self.stride)

    def mask(self, query_positions: np.ndarray, key_positions: np.ndarray) -> np.ndarray:
        """See strided_mask."""
        return strided_mask(query_positions, key_positions, self.stride)

    def visible(self, queries: Range, keys: Range) -> tuple[np.ndarray, np.ndarray]:
        """For blocks of positions: where at least one pair may be visible, and where every pair is."""
        low, high = queries.low - keys.high, queries.high - keys.low  # of the distances
        return (low < self.stride) | (high // self.stride * self.stride >= low), high < self.stride

    def parts(self) -> tuple[tuple[Distances, int], ...]:
        """The last positions, and those before them at a multiple of the stride; none if every position is."""
        if self.stride == 1:
            return ()
        return (Distances(0, self.stride), 1), (Distances(self.stride), self.stride)


@dataclass(frozen=True)
class BlockSparseMask:
    """S_ts ← −∞ unless layout[t // block_size][s // block_size]      (T, S) → (T, S)

    layout   a square of booleans with a row for every block of queries in the context; its diagonal must be true, so
             that each position may attend to itself
    """

    block_size: int
    layout: tuple[tuple[bool, ...], ...]

    def __post_init__(self) -> None:
        check_positive(block_size=self.block_size)
        layout = tuple(
            tuple(bool(entry) for entry in check_list("a row of layout", row))
            for row in check_list("layout", self.layout)
        )
        object.__setattr__(self, "layout", layout)
        if not layout or any(len(row) != len(layout) or not row[i] for i, row in enumerate(layout)):
            rows = ", ".join(str(len(row)) for row in layout)
            raise ValueError(f"layout has rows of {rows or 'no'} entries; it must be a square with a true diagonal")

    def check_context_length(self, context_length: int) -> None:
        """Raise ValueError if the layout has fewer blocks than the context."""
        needed = -(-context_length // self.block_size)  # rounded up
        if len(self.layout) < needed:
            raise ValueError(
                f"layout has {len(self.layout)} rows; for a context_length of {context_length} in blocks of "
                f"{self.block_size} it must have at least {needed}"
            )

    def mask(self, query_positions: np.ndarray, key_positions: np.ndarray) -> np.ndarray:
        """See block_mask."""
        return block_mask(query_positions, key_positions, self.block_size, np.array(self.layout))

    def visible(self, queries: Range, keys: Range) -> tuple[np.ndarray, np.ndarray]:
        """For blocks of positions: where at least one pair is visible, and where every pair is."""
        sums = np.pad(np.cumsum(np.cumsum(self.layout, axis=0), axis=1), ((1, 0), (1, 0)))  # of all blocks before
        (top, bottom), (left, right) = (
            (np.maximum(r.low, 0) // self.block_size, np.maximum(r.high, 0) // self.block_size + 1)
            for r in (queries, keys)
        )
        count = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        return count > 0, count == (bottom - top) * (right - left)

    def parts(self) -> tuple[tuple[Distances, int], ...]:
        """It has none: its tiles are visible or not."""
        return ()


def output_gate_forward(context: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, Cache]:
    """y = context · σ(logits)      (..., T, C), (..., T, C) → (..., T, C)

    The cache holds both factors and that of the sigmoid.
    """
    gate, sigmoid = sigmoid_forward(logits)
    return context * gate, Cache(context=context, gate=gate, sigmoid=sigmoid)


def output_gate_backward(dy: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """dcontext = dy · gate,  dlogits = dy · context · σ′(logits)      (..., T, C) → (..., T, C), (..., T, C)"""
    return dy * cache.gate, sigmoid_backward(dy * cache.context, cache.sigmoid)

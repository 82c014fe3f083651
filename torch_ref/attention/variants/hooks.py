"""The parts of attention in PyTorch: each a module that overrides what it changes."""

import torch
from torch import nn

from npllm import attention
from npllm import functional as F
from torch_ref.attention.variants.relative_bias import alibi_bias, t5_buckets
from torch_ref.attention.variants.rope import rotary


class AttentionHook(nn.Module):
    """Changes nothing."""

    def turn(self, q, k, positions):
        """Queries and keys as they shall meet."""
        return q, k

    def cap(self, scores):
        """Scores before anything is added."""
        return scores

    def bias(self, scores, distance):
        """Scores with what depends on the distance."""
        return scores

    def seen(self, positions):
        """A boolean table of who may look where, or None."""

    def gate(self, context, x):
        """The joined context as it shall be projected."""
        return context


class RoPE(AttentionHook):
    """Turn queries and keys by their place."""

    def __init__(self, widths, base=10000.0, share=1.0, layout="halves", stretch=None):
        super().__init__()
        width = int(widths.head_dim * share)
        options = dict(stretch or {})
        kind = options.pop("kind", "none")
        make = {"none": F.rotary_frequencies, "linear": F.interpolated_frequencies, "ntk": F.ntk_aware_frequencies,
                "yarn": F.yarn_frequencies, "llama3": F.llama3_frequencies}[kind]  # fmt: skip
        self.frequencies, self.layout = make(width, base, **options), layout
        self.amplitude = F.yarn_amplitude(options["factor"]) if kind == "yarn" else 1.0

    def turn(self, q, k, positions):
        """Both."""
        return tuple(rotary(x, positions, self.frequencies, self.layout, self.amplitude) for x in (q, k))


class ALiBi(AttentionHook):
    """Subtract slope times distance."""

    def __init__(self, widths, slopes=None):
        super().__init__()
        self.slopes = F.alibi_slopes(widths.num_heads) if slopes is None else slopes

    def bias(self, scores, distance):
        """The penalty."""
        return scores + alibi_bias(self.slopes, distance).to(scores.dtype)


class T5Bias(AttentionHook):
    """Add a learned number for the range of the distance."""

    def __init__(self, widths, num_buckets=32, max_distance=128):
        super().__init__()
        self.num_buckets, self.max_distance = num_buckets, max_distance
        self.relative_attention_bias = nn.Embedding(num_buckets, widths.num_heads)

    def bias(self, scores, distance):
        """The number of the pair's bucket."""
        distance = distance if distance.ndim == 2 else distance.squeeze(-3)  # a row for all heads
        buckets = t5_buckets(distance, self.num_buckets, self.max_distance)
        return scores + self.relative_attention_bias(buckets).movedim(-1, -3)


class QKNorm(AttentionHook):
    """RMS norm over each head."""

    def __init__(self, widths, eps=1e-6):
        super().__init__()
        self.q_norm, self.k_norm = nn.RMSNorm(widths.head_dim, eps), nn.RMSNorm(widths.head_dim, eps)

    def turn(self, q, k, positions):
        """Both."""
        return self.q_norm(q), self.k_norm(k)


class SlidingWindow(AttentionHook):
    """The last few places, and the first."""

    def __init__(self, widths, size, sinks=0):
        super().__init__()
        self.size, self.sinks = size, sinks

    def seen(self, positions):
        """Near, or a sink."""
        return (positions[..., :, None] - positions[..., None, :] < self.size) | (positions[..., None, :] < self.sinks)


class Softcap(AttentionHook):
    """cap · tanh(scores / cap)."""

    def __init__(self, widths, cap):
        super().__init__()
        self.size = cap

    def cap(self, scores):
        """Bent to ±cap."""
        return self.size * torch.tanh(scores / self.size)


class StridedMask(AttentionHook):
    """The last few places, and every so many before."""

    def __init__(self, widths, stride):
        super().__init__()
        self.stride = stride

    def seen(self, positions):
        """By the distance."""
        distance = positions[..., :, None] - positions[..., None, :]
        return (distance < self.stride) | (torch.remainder(distance, self.stride) == 0)


class BlockSparseMask(AttentionHook):
    """Whole blocks by a table."""

    def __init__(self, widths, size, layout):
        super().__init__()
        self.size, self.layout = size, torch.as_tensor(layout, dtype=torch.bool)

    def seen(self, positions):
        """The table's entry."""
        block = positions // self.size
        return self.layout[block[..., :, None], block[..., None, :]]


class OutputGate(AttentionHook):
    """A sigmoid of the layer's input multiplies the context."""

    def __init__(self, widths):
        super().__init__()
        self.gate_proj = nn.Linear(widths.d_model, widths.num_heads * widths.head_dim, bias=False)

    def gate(self, context, x):
        """Elementwise."""
        return context * torch.sigmoid(self.gate_proj(x))


PARTS = {name: globals()[made.__name__] for name, made in attention.PARTS.items()}  # the twins of npllm's classes

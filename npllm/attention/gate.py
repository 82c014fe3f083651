"""Gated output: what attention found passes a gate that each position sets for itself.

    context → [· sigmoid(x W_gateᵀ)] → projection

Over plain attention: softmax weights add up to 1, so a head must bring something even when there is nothing to find.
The gate can close. It also puts a bend between the value projection and the output projection, which were one linear
map in two steps.

Qiu et al. 2025, Gated Attention for Large Language Models, section 2.2, elementwise after the core.
"""

from npllm import functional as F
from npllm.attention.part import Part
from npllm.functional.cache import Cache
from npllm.layers.linear import Linear


class Gate(Part):
    """c ← c · σ(x W_gateᵀ)      (..., T, H·D) → (..., T, H·D)

    `gate_proj.weight` is (H·D, C).
    """

    def __init__(self, widths, *, rng=None, dtype="float32"):
        self.gate_proj = Linear(widths.d_model, widths.num_heads * widths.head_width, bias=False, rng=rng, dtype=dtype)

    def gate_forward(self, context, x):
        """The gated context; and the caches of the projection and of the sigmoid, and both factors."""
        logits, gate_proj = self.gate_proj.forward(x)
        gate, sigmoid = F.sigmoid_forward(logits)
        return context * gate, Cache(gate_proj=gate_proj, sigmoid=sigmoid, context=context, gate=gate)

    def gate_backward(self, dcontext, cache):
        """Product rule."""
        dlogits = F.sigmoid_backward(dcontext * cache.context, cache.sigmoid)
        return dcontext * cache.gate, self.gate_proj.backward(dlogits, cache.gate_proj)

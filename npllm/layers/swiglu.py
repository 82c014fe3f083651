"""The gated feed-forward network, SwiGLU: one linear map says what, another how much of it.

    x → [silu(gate) · up → down] → + → …

Over `feed_forward`: a product of two linear maps in place of one bent one. It costs a third matrix, so the hidden width
is usually 8/3 C instead of 4 C; at the same cost it learns better, for which nobody has given a reason yet.

Shazeer 2020, GLU Variants Improve Transformer, equation 6. The children carry the names of Llama's published weights.
"""

from npllm.core.cache import Cache
from npllm.core.module import Module, as_generator
from npllm.layers.activations import silu, silu_backward, silu_forward
from npllm.layers.linear import Linear


class SwiGLU(Module):
    """y = (silu(x W_gateᵀ) · (x W_upᵀ)) W_downᵀ      (..., C) → (..., C)

    The hidden width is 8/3 C, rounded up to an even number, unless given.
    """

    def __init__(self, d_model, d_hidden=None, *, rng=None, dtype="float32"):
        rng = as_generator(rng)
        d_hidden = -(-4 * d_model // 3) * 2 if d_hidden is None else d_hidden
        self.gate_proj = Linear(d_model, d_hidden, bias=False, rng=rng, dtype=dtype)
        self.up_proj = Linear(d_model, d_hidden, bias=False, rng=rng, dtype=dtype)
        self.down_proj = Linear(d_hidden, d_model, bias=False, rng=rng, dtype=dtype)

    def __call__(self, x):
        """The value alone."""
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))

    def forward(self, x):
        """The value, and the caches of the steps and both factors."""
        logits, gate_proj = self.gate_proj.forward(x)
        gate, silu = silu_forward(logits)
        up, up_proj = self.up_proj.forward(x)
        y, down_proj = self.down_proj.forward(gate * up)
        return y, Cache(gate_proj=gate_proj, silu=silu, gate=gate, up=up, up_proj=up_proj, down_proj=down_proj)

    def backward(self, dy, cache):
        """The forward, read from its last line to its first; a product passes each factor the other one."""
        dproduct = self.down_proj.backward(dy, cache.down_proj)
        dx = self.up_proj.backward(dproduct * cache.gate, cache.up_proj)
        return dx + self.gate_proj.backward(silu_backward(dproduct * cache.up, cache.silu), cache.gate_proj)

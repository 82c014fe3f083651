"""The feed-forward network: what attention gathered at a position is worked on there, alone.

    … → attention → + → norm → [linear → GELU → linear] → + → …

Vaswani et al. 2017, section 3.3; Radford et al. 2019 (GPT-2) for GELU and the factor 4.
"""

from npllm.core.cache import Cache
from npllm.core.module import Module, as_generator
from npllm.layers.activations import gelu, gelu_backward, gelu_forward
from npllm.layers.linear import Linear


class FeedForward(Module):
    """y = gelu(x W₁ᵀ + b₁) W₂ᵀ + b₂      (..., C) → (..., C)

    The hidden width is 4 C unless given. The children are called `c_fc` and `c_proj`, as in GPT-2, whose weights
    were trained with the tanh form of GELU.
    """

    def __init__(self, d_model, d_hidden=None, *, rng=None, dtype="float32"):
        rng = as_generator(rng)
        d_hidden = 4 * d_model if d_hidden is None else d_hidden
        self.c_fc = Linear(d_model, d_hidden, rng=rng, dtype=dtype)
        self.c_proj = Linear(d_hidden, d_model, rng=rng, dtype=dtype)

    def __call__(self, x):
        """The value alone."""
        return self.c_proj(gelu(self.c_fc(x), approximate="tanh"))

    def forward(self, x):
        """The value, and the caches of the three steps."""
        hidden, c_fc = self.c_fc.forward(x)
        active, gelu = gelu_forward(hidden, approximate="tanh")
        y, c_proj = self.c_proj.forward(active)
        return y, Cache(c_fc=c_fc, gelu=gelu, c_proj=c_proj)

    def backward(self, dy, cache):
        """The forward, read from its last line to its first."""
        dactive = self.c_proj.backward(dy, cache.c_proj)
        dhidden = gelu_backward(dactive, cache.gelu)
        return self.c_fc.backward(dhidden, cache.c_fc)

"""SwiGLU, the gated feed-forward network of Llama."""

from torch import nn
from torch.nn import functional as F


class SwiGLU(nn.Module):
    """down_proj(silu(gate_proj(x)) · up_proj(x))."""

    def __init__(self, d_model, d_hidden=None):
        super().__init__()
        if d_hidden is None:
            d_hidden = (8 * d_model + 2) // 3  # 8/3 C, rounded up
            d_hidden += d_hidden % 2
        self.gate_proj = nn.Linear(d_model, d_hidden, bias=False)
        self.up_proj = nn.Linear(d_model, d_hidden, bias=False)
        self.down_proj = nn.Linear(d_hidden, d_model, bias=False)

    def forward(self, x):
        """The gated hidden values, projected back to C channels."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))

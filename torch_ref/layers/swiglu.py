"""SwiGLU in PyTorch."""

from torch import nn
from torch.nn import functional as F


class SwiGLU(nn.Module):
    """silu(gate) · up, then down."""

    def __init__(self, d_model, d_hidden=None):
        super().__init__()
        d_hidden = -(-4 * d_model // 3) * 2 if d_hidden is None else d_hidden
        self.gate_proj = nn.Linear(d_model, d_hidden, bias=False)
        self.up_proj = nn.Linear(d_model, d_hidden, bias=False)
        self.down_proj = nn.Linear(d_hidden, d_model, bias=False)

    def forward(self, x):
        """The same at every position."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))

"""The feed-forward network of GPT-2."""

from torch import nn
from torch.nn import functional as F


class FeedForward(nn.Module):
    """Linear, GELU (tanh approximation), linear."""

    def __init__(self, d_model, d_hidden=None):
        super().__init__()
        d_hidden = 4 * d_model if d_hidden is None else d_hidden
        self.c_fc = nn.Linear(d_model, d_hidden)
        self.c_proj = nn.Linear(d_hidden, d_model)

    def forward(self, x):
        """gelu(x W₁ᵀ + b₁) W₂ᵀ + b₂."""
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))

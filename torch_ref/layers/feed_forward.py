"""The feed-forward network in PyTorch."""

from torch import nn
from torch.nn import functional as F


class FeedForward(nn.Module):
    """Linear, GELU (tanh), linear."""

    def __init__(self, d_model, d_hidden=None):
        super().__init__()
        d_hidden = 4 * d_model if d_hidden is None else d_hidden
        self.c_fc = nn.Linear(d_model, d_hidden)
        self.c_proj = nn.Linear(d_hidden, d_model)

    def forward(self, x):
        """The same at every position."""
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))

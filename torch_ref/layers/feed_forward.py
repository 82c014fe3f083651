"""The feed-forward network of GPT-2."""

from torch import nn

from torch_ref.layers.activations import ACTIVATIONS


class FeedForward(nn.Module):
    """Linear, activation, linear."""

    def __init__(self, d_model, d_hidden=None, activation="gelu_tanh", bias=True):
        super().__init__()
        d_hidden = 4 * d_model if d_hidden is None else d_hidden
        self.activation = ACTIVATIONS[activation]
        self.c_fc = nn.Linear(d_model, d_hidden, bias=bias)
        self.c_proj = nn.Linear(d_hidden, d_model, bias=bias)

    def forward(self, x):
        """activation(x W₁ᵀ + b₁) W₂ᵀ + b₂."""
        return self.c_proj(self.activation(self.c_fc(x)))

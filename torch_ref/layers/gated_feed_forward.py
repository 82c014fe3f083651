"""The gated feed-forward network of Llama (SwiGLU) and Gemma (GeGLU)."""

from torch import nn

from torch_ref.layers.activations import ACTIVATIONS


class GatedFeedForward(nn.Module):
    """down_proj(activation(gate_proj(x)) · up_proj(x))."""

    def __init__(self, d_model, d_hidden=None, activation="silu", bias=False):
        super().__init__()
        if d_hidden is None:
            d_hidden = (8 * d_model + 2) // 3  # 8/3 C, rounded up
            d_hidden += d_hidden % 2
        self.activation = ACTIVATIONS[activation]
        self.gate_proj = nn.Linear(d_model, d_hidden, bias=bias)
        self.up_proj = nn.Linear(d_model, d_hidden, bias=bias)
        self.down_proj = nn.Linear(d_hidden, d_model, bias=bias)

    def forward(self, x):
        """The gated hidden values, projected back to C channels."""
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))

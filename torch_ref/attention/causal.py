"""Causal attention in PyTorch."""

from torch import nn

from torch_ref.attention.masks import causal_mask
from torch_ref.layers.dropout import Dropout


class CausalAttention(nn.Module):
    """Self-attention to the same and earlier positions, with dropout of the attention weights."""

    def __init__(self, d_in, d_out, context_length, dropout, qkv_bias=False):
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.dropout = Dropout(dropout)

    def forward(self, x):
        """The context vectors."""
        return causal_attention(self.W_query(x), self.W_key(x), self.W_value(x), self.dropout)


def causal_attention(queries, keys, values, dropout, scale=None):
    """dropout(softmax(causal(q kᵀ / √D))) v, where `dropout` is a module; `scale` replaces 1/√D."""
    scores = queries @ keys.mT * (keys.shape[-1] ** -0.5 if scale is None else scale)
    mask = causal_mask(queries.shape[-2], keys.shape[-2], scores.device)
    weights = scores.masked_fill(~mask, -float("inf")).softmax(dim=-1)
    return dropout(weights) @ values

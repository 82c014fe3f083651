"""The pre-norm transformer block in PyTorch."""

from torch import nn

from torch_ref.attention.causal_self_attention import CausalSelfAttention
from torch_ref.layers.dropout import Dropout
from torch_ref.layers.feed_forward import FeedForward


class TransformerBlock(nn.Module):
    """Attention, then the feed-forward network, each with a norm before it and a residual connection around it."""

    def __init__(self, d_model, context_length, dropout, num_heads, qkv_bias=True, attn_dropout=None, eps=1e-5, *,
        d_hidden=None, activation="gelu_tanh", scale=None,
    ):  # fmt: skip
        super().__init__()
        attn_dropout = dropout if attn_dropout is None else attn_dropout
        self.ln_1 = nn.LayerNorm(d_model, eps)
        self.attn = CausalSelfAttention(d_model, context_length, attn_dropout, num_heads, qkv_bias, scale=scale)
        self.drop_1 = Dropout(dropout)
        self.ln_2 = nn.LayerNorm(d_model, eps)
        self.mlp = FeedForward(d_model, d_hidden, activation)
        self.drop_2 = Dropout(dropout)

    def forward(self, x):
        """The value of both halves."""
        x = x + self.drop_1(self.attn(self.ln_1(x)))
        return x + self.drop_2(self.mlp(self.ln_2(x)))

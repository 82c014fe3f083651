"""The pre-norm transformer block in PyTorch."""

from torch import nn

from torch_ref.attention.multi_head import MultiHeadAttention
from torch_ref.layers.dropout import Dropout
from torch_ref.layers.feed_forward import FeedForward


class TransformerBlock(nn.Module):
    """Attention, then the feed-forward network, each behind a norm and added to what came in."""

    def __init__(self, d_model, context_length, dropout, num_heads, qkv_bias=False):
        super().__init__()
        self.ln_1 = nn.LayerNorm(d_model)
        self.attn = MultiHeadAttention(d_model, d_model, context_length, dropout, num_heads, qkv_bias)
        self.drop_1 = Dropout(dropout)
        self.ln_2 = nn.LayerNorm(d_model)
        self.mlp = FeedForward(d_model)
        self.drop_2 = Dropout(dropout)

    def forward(self, x):
        """The value of both halves."""
        x = x + self.drop_1(self.attn(self.ln_1(x)))
        return x + self.drop_2(self.mlp(self.ln_2(x)))

"""GPT-2's attention in PyTorch."""

from torch import nn

from torch_ref.attention.causal import causal_attention
from torch_ref.attention.multi_head import join_heads, split_heads
from torch_ref.layers.dropout import Dropout


class CausalSelfAttention(nn.Module):
    """All heads in one layer; one linear map makes queries, keys and values."""

    def __init__(self, d_model, context_length, dropout, num_heads, qkv_bias=True, *, scale=None):
        super().__init__()
        self.num_heads, self.scale = num_heads, scale
        self.c_attn = nn.Linear(d_model, 3 * d_model, bias=qkv_bias)
        self.c_proj = nn.Linear(d_model, d_model)
        self.dropout = Dropout(dropout)

    def forward(self, x):
        """The projected context vectors."""
        q, k, v = (split_heads(part, self.num_heads) for part in self.c_attn(x).chunk(3, dim=-1))
        return self.c_proj(join_heads(causal_attention(q, k, v, self.dropout, self.scale)))

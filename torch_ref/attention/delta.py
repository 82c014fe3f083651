"""DeltaNet in PyTorch, a position at a time."""

import torch
from torch import nn

from torch_ref.functional.delta_rule import delta_rule
from torch_ref.functional.normalization import l2_normalize
from torch_ref.layers.normalization import RMSNorm


class DeltaNet(nn.Module):
    """Keys and queries of length 1, the delta rule, a norm for each head; `chunk` changes no value."""

    def __init__(self, d_model, context_length, num_heads, chunk=32):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model, bias=False)
        self.b_proj = nn.Linear(d_model, num_heads, bias=False)
        self.o_norm = RMSNorm(d_model // num_heads)
        self.o_proj = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, documents=None):
        """The projected context vectors."""
        queries, keys, values = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        rates = torch.sigmoid(self.b_proj(x)).transpose(-2, -1)
        documents = None if documents is None else documents[..., None, :]
        context, _ = delta_rule(l2_normalize(queries), l2_normalize(keys), values, rates, documents=documents)
        return self.o_proj(self.o_norm(context).transpose(-3, -2).flatten(-2))

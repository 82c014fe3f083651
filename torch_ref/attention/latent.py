"""Multi-head latent attention in PyTorch: content and position are two scores, added."""

import torch
from torch import nn

from torch_ref.functional.rotary import rotary
from torch_ref.layers.dropout import Dropout
from torch_ref.layers.normalization import RMSNorm


class MultiHeadLatentAttention(nn.Module):
    """Keys and values from a latent; rotary positions in channels of their own."""

    def __init__(
        self, d_model, context_length, dropout, num_heads, latent_width, head_width, rotary_width,
        query_latent_width=None, base=10000.0, layout="pairs",
    ):  # fmt: skip
        super().__init__()
        self.num_heads, self.head_width, self.layout = num_heads, head_width, layout
        self.widths = [latent_width, rotary_width]
        exponents = torch.arange(0, rotary_width, 2, dtype=torch.float64) / max(rotary_width, 1)
        self.frequencies = base**-exponents
        query_width = num_heads * (head_width + rotary_width)
        if query_latent_width is None:
            self.q_proj = nn.Linear(d_model, query_width, bias=False)
        else:
            self.q_a_proj = nn.Linear(d_model, query_latent_width, bias=False)
            self.q_a_layernorm = RMSNorm(query_latent_width)
            self.q_b_proj = nn.Linear(query_latent_width, query_width, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(d_model, sum(self.widths), bias=False)
        self.kv_a_layernorm = RMSNorm(latent_width)
        self.kv_b_proj = nn.Linear(latent_width, num_heads * 2 * head_width, bias=False)
        self.o_proj = nn.Linear(num_heads * head_width, d_model, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x, documents=None):
        """The projected context vectors."""
        length = x.shape[-2]
        places, hidden = torch.arange(length), torch.ones(length, length, dtype=torch.bool).triu(diagonal=1)
        if documents is not None:
            begins = torch.ones_like(documents, dtype=torch.bool)
            begins[..., 1:] = documents[..., 1:] != documents[..., :-1]
            number = begins.cumsum(-1)
            hidden = (hidden | (number[..., :, None] != number[..., None, :]))[..., None, :, :]
            places = (places - torch.where(begins, places, 0).cummax(-1).values)[..., None, :]
        queries = self.q_proj(x) if hasattr(self, "q_proj") else self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        queries = queries.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
        latent, shared_key = self.kv_a_proj_with_mqa(x).split(self.widths, dim=-1)
        up = self.kv_b_proj(self.kv_a_layernorm(latent)).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
        keys, values = up.chunk(2, dim=-1)
        scores = queries[..., : self.head_width] @ keys.mT
        if self.widths[1]:
            turned = rotary(queries[..., self.head_width :], places, self.frequencies, self.layout)
            shared_key = rotary(shared_key.unsqueeze(-3), places, self.frequencies, self.layout)
            scores = scores + turned @ shared_key.mT
        scores = (scores / (self.head_width + self.widths[1]) ** 0.5).masked_fill(hidden, -torch.inf)
        context = self.dropout(torch.softmax(scores, dim=-1)) @ values
        return self.o_proj(context.transpose(-3, -2).flatten(-2))

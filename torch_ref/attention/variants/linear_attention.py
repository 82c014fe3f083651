"""Linear attention in PyTorch: the sum over the past as it stands in the paper, and with a state as one table.

Linear attention in PyTorch.
"""

import torch
from torch import nn


def elu_plus_one(x):
    """elu(x) + 1, without the rounding of a sum of −1 and 1."""
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def linear_attention(q, k, v, document_ids=None):
    """The running sums of φ(k) vᵀ and of φ(k), every one of them kept."""
    sums, normalizer = (k[..., :, None] * v[..., None, :]), k
    if document_ids is None:
        sums, normalizer = sums.cumsum(dim=-3), normalizer.cumsum(dim=-2)
    else:
        same = _same_document(document_ids, q.dtype)
        sums = torch.einsum("...ts,...sde->...tde", same.expand(*q.shape[:-1], -1), sums)
        normalizer = same @ normalizer
    return torch.einsum("...td,...tde->...te", q, sums) / (q * normalizer).sum(-1, keepdim=True)


def linear_attention_recurrent(q, k, v, state=None, document_ids=None):
    """All positions at once: what is read from the first state, and what from the positions up to one's own."""
    length = q.shape[-2]
    same = (
        torch.ones(length, length, dtype=q.dtype).tril()
        if document_ids is None
        else _same_document(document_ids, q.dtype)
    )
    values = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)
    sums = (q @ k.mT * same) @ values
    last = torch.einsum("...s,...sd,...se->...de", same[..., -1, :].expand(q.shape[:-1]), k, values)
    if state is not None:
        sums = sums + same[..., :, :1] * (q @ state)
        last = last + same[..., -1:, :1] * state
    return sums[..., :-1] / sums[..., -1:], last


def _same_document(document_ids, dtype):
    """1 where position t and an earlier s stand in one document (..., T, T)."""
    changes = torch.zeros_like(document_ids)
    changes[..., 1:] = document_ids[..., 1:] != document_ids[..., :-1]
    number = changes.cumsum(dim=-1)
    return (number[..., :, None] == number[..., None, :]).to(dtype).tril()


class LinearAttention(nn.Module):
    """Features of queries and keys, and running sums; `mode` changes no value."""

    def __init__(self, d_model, context_length, num_heads, mode="parallel"):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model, bias=False)
        self.o_proj = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, document_ids=None):
        """The projected context vectors."""
        queries, keys, values = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        document_ids = None if document_ids is None else document_ids[..., None, :]
        context = linear_attention(elu_plus_one(queries), elu_plus_one(keys), values, document_ids)
        return self.o_proj(context.transpose(-3, -2).flatten(-2))

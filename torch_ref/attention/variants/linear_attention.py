"""Linear attention in PyTorch: the sums over earlier positions as in the paper, and with a state as one matrix."""

import torch
from torch import nn

from torch_ref.attention.masks import positions_and_mask
from torch_ref.attention.multi_head import join_heads, split_heads


def elu_plus_one(x):
    """elu(x) + 1, without the rounding of a sum of −1 and 1."""
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def linear_attention(q, k, v, document_ids=None):
    """The running sums of φ(k) vᵀ and of φ(k), all of them kept."""
    sums, normalizer = (k[..., :, None] * v[..., None, :]), k
    if document_ids is None:
        sums, normalizer = sums.cumsum(dim=-3), normalizer.cumsum(dim=-2)
    else:
        same = same_document(q, document_ids)
        sums = torch.einsum("...ts,...sde->...tde", same.expand(*q.shape[:-1], -1), sums)
        normalizer = same @ normalizer
    return torch.einsum("...td,...tde->...te", q, sums) / (q * normalizer).sum(-1, keepdim=True)


def linear_attention_recurrent(q, k, v, state=None, document_ids=None):
    """All positions at once: the terms from the first state, and those from the positions up to t."""
    same = same_document(q, document_ids)
    values = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)
    sums = (q @ k.mT * same) @ values
    last = torch.einsum("...s,...sd,...se->...de", same[..., -1, :].expand(q.shape[:-1]), k, values)
    if state is not None:
        sums = sums + same[..., :, :1] * (q @ state)
        last = last + same[..., -1:, :1] * state
    return sums[..., :-1] / sums[..., -1:], last


def linear_attention_chunked(q, k, v, state=None, document_ids=None, chunk=64):
    """The same numbers for any chunk."""
    return linear_attention_recurrent(q, k, v, state, document_ids)


def same_document(q, document_ids=None):
    """1 where s ≤ t is in the document of t, else 0; of the dtype of q, (..., T, T)."""
    _, mask = positions_and_mask(q.shape[-2], document_ids)
    return (mask if document_ids is None else mask.squeeze(-3)).to(q.dtype)


class LinearAttention(nn.Module):
    """Feature maps of queries and keys, and running sums. `mode` does not change the values."""

    def __init__(self, d_model, context_length, num_heads, mode="parallel"):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model, bias=False)
        self.o_proj = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, document_ids=None):
        """The projected context vectors."""
        q, k, v = (split_heads(proj(x), self.num_heads) for proj in (self.q_proj, self.k_proj, self.v_proj))
        document_ids = None if document_ids is None else document_ids[..., None, :]
        return self.o_proj(join_heads(linear_attention(elu_plus_one(q), elu_plus_one(k), v, document_ids)))

"""Linear attention in PyTorch: the sum over the past as it stands in the paper, and with a state as one table."""

import torch


def elu_plus_one(x):
    """elu(x) + 1, without the rounding of a sum of −1 and 1."""
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def linear_attention(q, k, v, documents=None):
    """The running sums of φ(k) vᵀ and of φ(k), every one of them kept."""
    sums, normalizer = (k[..., :, None] * v[..., None, :]), k
    if documents is None:
        sums, normalizer = sums.cumsum(dim=-3), normalizer.cumsum(dim=-2)
    else:
        same = _same_document(documents, q.dtype)
        sums = torch.einsum("...ts,...sde->...tde", same.expand(*q.shape[:-1], -1), sums)
        normalizer = same @ normalizer
    return torch.einsum("...td,...tde->...te", q, sums) / (q * normalizer).sum(-1, keepdim=True)


def linear_attention_recurrent(q, k, v, state=None, documents=None):
    """All positions at once: what is read from the first state, and what from the positions up to one's own."""
    length = q.shape[-2]
    same = torch.ones(length, length, dtype=q.dtype).tril() if documents is None else _same_document(documents, q.dtype)
    values = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)
    sums = (q @ k.mT * same) @ values
    last = torch.einsum("...s,...sd,...se->...de", same[..., -1, :].expand(q.shape[:-1]), k, values)
    if state is not None:
        sums = sums + same[..., :, :1] * (q @ state)
        last = last + same[..., -1:, :1] * state
    return sums[..., :-1] / sums[..., -1:], last


def _same_document(documents, dtype):
    """1 where position t and an earlier s stand in one document (..., T, T)."""
    changes = torch.zeros_like(documents)
    changes[..., 1:] = documents[..., 1:] != documents[..., :-1]
    number = changes.cumsum(dim=-1)
    return (number[..., :, None] == number[..., None, :]).to(dtype).tril()

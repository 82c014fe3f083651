"""The delta rule in PyTorch, a position at a time: the state is multiplied by a matrix and gets a term added.

DeltaNet in PyTorch, a position at a time.
"""

import torch
from torch import nn

from torch_ref.layers.normalization import RMSNorm, l2_normalize


def delta_rule(q, k, v, beta, state=None, document_ids=None):
    """S ← (I − β k kᵀ) S + β k vᵀ, then y = Sᵀ q."""
    if state is None:
        state = q.new_zeros(*k.shape[:-2], k.shape[-1], v.shape[-1])
    identity, outputs = torch.eye(k.shape[-1], dtype=q.dtype), []
    for t in range(q.shape[-2]):
        if document_ids is not None and t > 0:
            state = state * (document_ids[..., t] == document_ids[..., t - 1])[..., None, None]
        key, value, rate = k[..., t, :, None], v[..., t, None, :], beta[..., t, None, None]
        state = (identity - rate * key @ key.mT) @ state + rate * key @ value
        outputs.append(q[..., t, None, :] @ state)
    return torch.cat(outputs, dim=-2), state


def delta_rule_chunked(q, k, v, beta, state=None, document_ids=None, chunk=32):
    """The same numbers, whatever the chunk."""
    return delta_rule(q, k, v, beta, state, document_ids)


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

    def forward(self, x, document_ids=None):
        """The projected context vectors."""
        queries, keys, values = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        rates = torch.sigmoid(self.b_proj(x)).transpose(-2, -1)
        document_ids = None if document_ids is None else document_ids[..., None, :]
        context, _ = delta_rule(l2_normalize(queries), l2_normalize(keys), values, rates, document_ids=document_ids)
        return self.o_proj(self.o_norm(context).transpose(-3, -2).flatten(-2))

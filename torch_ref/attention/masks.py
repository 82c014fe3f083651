"""Attention masks in PyTorch: True where a query may attend to a key."""

import torch


def causal_mask(num_queries, num_keys, device=None, offset=0, window=None, sinks=0):
    """On and below the diagonal; with a window not below another diagonal, except for the first `sinks` keys."""
    mask = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).tril(offset)
    if window is not None:
        too_far = torch.ones_like(mask).tril(offset - window)
        too_far[:, :sinks] = False
        mask &= ~too_far
    return mask


def positions_and_mask(length, document_ids=None, device=None):
    """Positions and the causal mask of a sequence; with document ids (..., T) both are those of each document.

    (T) and (T, T), or with an axis for the heads (..., 1, T) and (..., 1, T, T).
    """
    causal = causal_mask(length, length, device)
    if document_ids is None:
        return torch.arange(length, device=device), causal
    starts = torch.ones_like(document_ids, dtype=torch.bool)
    starts[..., 1:] = document_ids.diff(dim=-1) != 0
    number = starts.cumsum(-1)
    mask = (number[..., :, None] == number[..., None, :]) & causal
    positions = mask.sum(-1) - 1  # the number of earlier positions in the same document
    return positions[..., None, :], mask[..., None, :, :]

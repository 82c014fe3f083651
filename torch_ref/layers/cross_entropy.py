"""Cross-entropy: PyTorch's own, with the classes on the last axis."""

from torch.nn import functional as F


def cross_entropy(logits, targets, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """F.cross_entropy of logits (..., V) and targets (...)."""
    losses = F.cross_entropy(
        logits.reshape(-1, logits.shape[-1]),
        targets.reshape(-1),
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )
    return losses.reshape(targets.shape) if reduction == "none" else losses

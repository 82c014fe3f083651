"""The head and the cross-entropy: PyTorch's own functions, one after the other."""

import torch
from torch.nn import functional as F

from torch_ref.layers.cross_entropy import cross_entropy


def linear_cross_entropy(
    x,
    weight,
    targets,
    class_weight=None,
    ignore_index=-100,
    reduction="mean",
    label_smoothing=0.0,
    *,
    logits_scaling=1.0,
    logits_softcap=None,
):
    """F.cross_entropy(F.linear(x, weight), targets), with the logits divided and capped before the loss."""
    logits = F.linear(x, weight) / logits_scaling
    if logits_softcap is not None:
        logits = logits_softcap * torch.tanh(logits / logits_softcap)
    return cross_entropy(logits, targets, class_weight, ignore_index, reduction, label_smoothing)

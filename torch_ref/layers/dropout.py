"""Dropout in PyTorch. The dropout mask is an argument, because two libraries draw different random numbers."""

import torch
from torch import nn


def dropout(x, p=0.5, *, dropout_mask=None):
    """x · dropout_mask, a mask of 0 and 1/(1 − p); without a mask nothing is dropped."""
    return x if dropout_mask is None else x * dropout_mask


class Dropout(nn.Dropout):
    """nn.Dropout; where `dropout_mask` is set, x is multiplied by it instead of by a random mask."""

    dropout_mask: torch.Tensor | None = None

    def forward(self, x):
        """x · dropout_mask, or nn.Dropout."""
        return super().forward(x) if self.dropout_mask is None else x * self.dropout_mask

"""Dropout in PyTorch, with the mask from outside: random numbers of two libraries never agree.

Dropout whose mask can be given, so that two libraries drop the same numbers.
"""

from torch import nn


def dropout(x, p=0.5, mask=None):
    """x times a mask of 0 and 1/(1 − p); without a mask nothing is dropped."""
    return x if mask is None else x * mask


class Dropout(nn.Dropout):
    """nn.Dropout; where `mask` is set, it multiplies by the mask instead of drawing one."""

    mask = None

    def forward(self, x):
        """x times the mask, or as nn.Dropout does."""
        return super().forward(x) if self.mask is None else x * self.mask

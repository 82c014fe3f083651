"""Dropout whose mask can be given, so that two libraries drop the same numbers."""

from torch import nn


class Dropout(nn.Dropout):
    """nn.Dropout; where `mask` is set, it multiplies by the mask instead of drawing one."""

    mask = None

    def forward(self, x):
        """x times the mask, or as nn.Dropout does."""
        return super().forward(x) if self.mask is None else x * self.mask

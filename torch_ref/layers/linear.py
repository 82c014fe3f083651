"""The linear layer is PyTorch's own."""

from torch.nn import Linear

__all__ = ["Linear"]

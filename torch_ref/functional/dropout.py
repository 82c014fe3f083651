"""Dropout in PyTorch, with the mask from outside: random numbers of two libraries never agree."""


def dropout(x, p=0.5, mask=None):
    """x times a mask of 0 and 1/(1 − p); without a mask nothing is dropped."""
    return x if mask is None else x * mask

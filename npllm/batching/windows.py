"""Windows: a text is cut into stretches, and the target of every position is the id that follows it.

    text → ids → [windows of inputs and targets] → batches → embedding → …

    ids      40  367 2885 1464 1807
    inputs   40  367 2885 1464
    targets     367 2885 1464 1807      one step on: position t learns to predict what stands at t + 1

Raschka, section 2.6.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def sliding_windows(ids, max_length, stride):
    """inputs[i, t] = ids[i·stride + t],  targets[i, t] = ids[i·stride + t + 1]      (N) → (W, T), (W, T)

    T is max_length, and W = ⌈(N − T)/stride⌉ windows fit. Both arrays are read-only views: nothing is copied,
    however much the windows overlap. Raises ValueError for a stride or length below 1 and for a text without room
    for one window and its last target.
    """
    ids = np.asarray(ids)
    if ids.ndim != 1 or not (np.issubdtype(ids.dtype, np.integer) or ids.size == 0):
        raise TypeError(f"ids has shape {ids.shape} and dtype {ids.dtype}; it must be a row of integers")
    check_window(len(ids), max_length, stride)
    windows = sliding_window_view(ids, max_length + 1)[::stride]
    return windows[:, :-1], windows[:, 1:]


def count_windows(num_tokens, max_length, stride):
    """W = ⌈(N − T)/stride⌉, how many windows a text of N tokens gives."""
    check_window(num_tokens, max_length, stride)
    return -(-(num_tokens - max_length) // stride)


def check_window(num_tokens, max_length, stride):
    """Raise ValueError unless at least one window fits."""
    for name, value in (("max_length", max_length), ("stride", stride)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    if num_tokens <= max_length:
        raise ValueError(
            f"the text has {num_tokens} tokens; with max_length {max_length} it must have at least {max_length + 1}, "
            "the window and the target of its last position"
        )


@dataclass(frozen=True)
class EpochStats:
    """What one epoch shows of a text, counted in tokens; see `account`."""

    tokens: int  # in the text
    windows: int  # that fit
    batches: int  # that an epoch gives
    windows_dropped: int  # in the last batch, if that is left out for being small
    predictions: int  # targets in all batches, repetitions counted
    targets_seen: int  # different tokens among them; a shuffled epoch leaves out other windows every time
    overlap: int  # inputs that two windows in a row share
    skipped_between: int  # targets between two windows, where the stride is larger than the window
    dropped_at_end: int  # tokens after the last target of the last window

    def __str__(self):
        return (
            f"{self.tokens:,} tokens give {self.windows:,} windows in {self.batches:,} batches"
            f" ({self.windows_dropped:,} windows dropped): {self.predictions:,} predictions of"
            f" {self.targets_seen:,} different tokens; overlap {self.overlap}, skipped between {self.skipped_between},"
            f" dropped at the end {self.dropped_at_end}"
        )


def account(num_tokens, max_length, stride, batch_size, drop_last=True):
    """Count what an epoch covers, an EpochStats.

    The first token is never a target, so at best num_tokens − 1 different ones are. Where the last batch is dropped
    the count is for windows in order.
    """
    windows = count_windows(num_tokens, max_length, stride)
    used = windows // batch_size * batch_size if drop_last else windows
    step = min(stride, max_length)  # new targets that each further window brings
    last_target = (windows - 1) * stride + max_length
    return EpochStats(
        tokens=num_tokens,
        windows=windows,
        batches=-(-used // batch_size),
        windows_dropped=windows - used,
        predictions=used * max_length,
        targets_seen=(used - 1) * step + max_length if used else 0,
        overlap=max(max_length - stride, 0),
        skipped_between=max(stride - max_length, 0),
        dropped_at_end=num_tokens - 1 - last_target,
    )

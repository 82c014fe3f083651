"""Sliding windows: split a sequence of ids into windows; the target of each position is the next id.

    text → ids → [windows of inputs and targets] → batches → embedding → …

    ids      40  367 2885 1464 1807
    inputs   40  367 2885 1464
    targets     367 2885 1464 1807      shifted by one: position t is trained to predict the id at t + 1

Raschka, section 2.6.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from npllm.core.checks import check_integer


def sliding_windows(ids: ArrayLike, max_length: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """inputs[i, t] = ids[i·stride + t],  targets[i, t] = ids[i·stride + t + 1]      (N) → (W, T), (W, T)

    T is max_length, and W = ⌈(N − T)/stride⌉. Both results are read-only views of `ids`: nothing is copied, however
    much the windows overlap. Raises ValueError for a stride or length below 1, and if there are fewer than
    max_length + 1 ids (one window and the target of its last position).
    """
    ids = np.asarray(ids)
    if ids.ndim != 1 or not (np.issubdtype(ids.dtype, np.integer) or ids.size == 0):
        raise TypeError(f"ids has shape {ids.shape} and dtype {ids.dtype}; it must be one-dimensional, of integers")
    check_window(len(ids), max_length, stride)
    windows = sliding_window_view(ids, max_length + 1)[::stride]
    return windows[:, :-1], windows[:, 1:]


def count_windows(num_tokens: int, max_length: int, stride: int) -> int:
    """W = ⌈(N − T)/stride⌉, the number of windows in a text of N tokens."""
    check_window(num_tokens, max_length, stride)
    return -(-(num_tokens - max_length) // stride)


def check_window(num_tokens: int, max_length: int, stride: int) -> None:
    """Raise ValueError unless max_length and stride are at least 1 and the text has at least one window."""
    for name, value in (("max_length", max_length), ("stride", stride)):
        check_integer(name, value, 1)
    if num_tokens <= max_length:
        raise ValueError(
            f"the text has {num_tokens} tokens; with max_length {max_length} it must have at least {max_length + 1}, "
            "for one window and the target of its last position"
        )


@dataclass(frozen=True)
class EpochStats:
    """What one epoch covers of a text, in tokens unless stated otherwise; see `epoch_stats`."""

    tokens: int  # in the text
    windows: int  # number of windows in the text
    batches: int  # number of batches in the epoch
    windows_dropped: int  # windows in the incomplete last batch, if it is dropped
    predictions: int  # targets in all batches, counted with repetitions
    distinct_targets: int  # positions of the text that are a target at least once
    overlap: int  # inputs that two consecutive windows have in common
    skipped_between: int  # tokens between two windows, if the stride is larger than the window
    dropped_at_end: int  # tokens after the last target of the last window

    def __str__(self) -> str:
        return (
            f"{self.tokens:,} tokens give {self.windows:,} windows in {self.batches:,} batches"
            f" ({self.windows_dropped:,} windows dropped): {self.predictions:,} predictions of"
            f" {self.distinct_targets:,} distinct targets; overlap {self.overlap}, skipped between"
            f" {self.skipped_between}, dropped at the end {self.dropped_at_end}"
        )


def epoch_stats(num_tokens: int, max_length: int, stride: int, batch_size: int, drop_last: bool = True) -> EpochStats:
    """Count what one epoch covers of a text.

    The first token is never a target, so there are at most num_tokens − 1 distinct targets. If the last batch is
    dropped, the numbers are those of an epoch in order; a shuffled epoch drops other windows.
    """
    check_integer("batch_size", batch_size, 1)
    windows = count_windows(num_tokens, max_length, stride)
    used = windows // batch_size * batch_size if drop_last else windows
    new_targets = min(stride, max_length)  # that each further window adds
    last_target = (windows - 1) * stride + max_length
    return EpochStats(
        tokens=num_tokens,
        windows=windows,
        batches=-(-used // batch_size),
        windows_dropped=windows - used,
        predictions=used * max_length,
        distinct_targets=(used - 1) * new_targets + max_length if used else 0,
        overlap=max(max_length - stride, 0),
        skipped_between=max(stride - max_length, 0),
        dropped_at_end=num_tokens - 1 - last_target,
    )

"""Datasets: the windows of a sequence of ids, which may be in memory or in a memory-mapped file.

    text → ids → [dataset of windows] → batches → embedding → …

Raschka, section 2.6, listing 2.5.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from npllm.batching.windows import sliding_windows

END_OF_TEXT = "<|endoftext|>"


class WindowDataset:
    """The windows of a sequence of ids.

    `dataset[i]` is the pair (inputs, targets) of window i, each (T); with an array of B indices it is a batch, each
    (B, T). Both are int64 copies, whatever integer dtype `ids` has. Only the windows asked for are read, so `ids` may
    be a memory-mapped file larger than memory (see token_file).
    """

    def __init__(self, ids: ArrayLike, max_length: int, stride: int):
        self.ids = np.asarray(ids)
        self.max_length, self.stride = max_length, stride
        self.inputs, self.targets = sliding_windows(self.ids, max_length, stride)

    def __len__(self) -> int:
        """The number of windows."""
        return len(self.inputs)

    def __getitem__(self, index: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets) of one window or of an array of windows; raises IndexError for an index out of range."""
        return self.inputs[index].astype(np.int64), self.targets[index].astype(np.int64)


class GPTDatasetV1(WindowDataset):
    """The windows of a text, with the name and the arguments of the book's dataset.

    `tokenizer` is any object with `encode`. If it has the special token <|endoftext|>, that token may be in the text.
    """

    def __init__(self, txt: str, tokenizer: Any, max_length: int, stride: int):
        super().__init__(encode_for_training(txt, tokenizer), max_length, stride)


def encode_for_training(txt: str, tokenizer: Any, end_token: str = END_OF_TEXT) -> np.ndarray:
    """The ids of a text as an int64 array; `end_token` is encoded as the special token if the tokenizer has it."""
    # BPETokenizer has `special_tokens`, tiktoken's Encoding has `special_tokens_set`, word tokenizers have neither
    special_tokens = getattr(tokenizer, "special_tokens", getattr(tokenizer, "special_tokens_set", ()))
    options = {"allowed_special": {end_token}} if end_token in special_tokens else {}
    ids = np.asarray(tokenizer.encode(txt, **options))
    if ids.size and (not np.issubdtype(ids.dtype, np.integer) or ids.min() < 0):
        raise TypeError(f"the tokenizer returned {ids[:3].tolist()} …, {ids.dtype}; ids must be integers of 0 or more")
    return ids.astype(np.int64)

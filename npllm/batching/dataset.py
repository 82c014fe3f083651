"""Datasets: windows of a row of ids, which may lie in memory or in a file larger than memory.

    text → ids → [dataset of windows] → batches → embedding → …

Raschka, section 2.6, listing 2.5.
"""

import inspect

import numpy as np

from npllm.batching.windows import sliding_windows


class WindowDataset:
    """The windows of a row of ids.

    `dataset[i]` is the pair (inputs, targets) of window i, each (T); with an array of B numbers it is a batch, each
    (B, T). Both are copies of type int64, whatever type the ids are stored in: only what is asked for is read, so
    `ids` may be a memory-mapped file (see token_file).
    """

    def __init__(self, ids, max_length, stride):
        self.ids = np.asarray(ids) if not isinstance(ids, np.ndarray) else ids
        self.max_length, self.stride = max_length, stride
        self.inputs, self.targets = sliding_windows(self.ids, max_length, stride)

    def __len__(self):
        """How many windows there are."""
        return len(self.inputs)

    def __getitem__(self, index):
        """(inputs, targets) of one window or of an array of them; raises IndexError outside of the dataset."""
        return self.inputs[index].astype(np.int64), self.targets[index].astype(np.int64)


class GPTDatasetV1(WindowDataset):
    """The windows of a text, under the book's name and with its arguments.

    `tokenizer` is any with `encode`; one that knows special tokens may meet <|endoftext|> in the text.
    """

    def __init__(self, txt, tokenizer, max_length, stride):
        super().__init__(encode_for_training(txt, tokenizer), max_length, stride)


def encode_for_training(txt, tokenizer):
    """The ids of a text, an int64 array; <|endoftext|> in it means the special token, where the tokenizer has those."""
    knows_special_tokens = "allowed_special" in inspect.signature(tokenizer.encode).parameters
    options = {"allowed_special": {"<|endoftext|>"}} if knows_special_tokens else {}
    ids = np.asarray(tokenizer.encode(txt, **options))
    if ids.size and (not np.issubdtype(ids.dtype, np.integer) or ids.min() < 0):
        raise TypeError(f"the tokenizer gave {ids[:3].tolist()} …, {ids.dtype}; ids must be integers of 0 or more")
    return ids.astype(np.int64)

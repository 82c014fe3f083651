"""The data loader: batches of windows, optionally shuffled every epoch and prepared by worker threads.

    text → ids → windows → [batches] → embedding → …

Raschka, section 2.6, listing 2.6.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from npllm.batching.dataset import GPTDatasetV1
from npllm.batching.windows import EpochStats, epoch_stats
from npllm.core.checks import check_integer
from npllm.tokenizers.gpt2 import GPT2Tokenizer


class DataLoader:
    """Batches of a dataset: every iteration is one epoch and yields (inputs, targets), each (B, T).

    Args:
        dataset: any object with `len()` that returns a batch for an array of indices, such as WindowDataset.
        shuffle: a new random order in every epoch; the same state of `rng` gives the same epochs.
        drop_last: drop the last batch if it is incomplete.
        num_workers: number of threads that prepare the next batches; the batches and their order stay the same.
        rng: a numpy.random.Generator; by default one seeded by the operating system.

    Raises ValueError if an epoch would be empty.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 4,
        shuffle: bool = False,
        drop_last: bool = False,
        num_workers: int = 0,
        rng: np.random.Generator | None = None,
    ):
        for name, value, minimum in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            check_integer(name, value, minimum)
        if len(dataset) == 0:
            raise ValueError("dataset is empty; it must have at least one window")
        if drop_last and batch_size > len(dataset):
            raise ValueError(
                f"batch_size is {batch_size} and the dataset has {len(dataset)} windows; with drop_last an epoch has "
                "no batch (use a smaller batch_size, a smaller stride, or drop_last=False)"
            )
        if rng is not None and not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng is {rng!r}; it must be a numpy.random.Generator")
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.drop_last, self.num_workers = drop_last, num_workers
        self.rng = np.random.default_rng() if rng is None else rng

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        complete, remainder = divmod(len(self.dataset), self.batch_size)
        return complete + (remainder > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """One epoch; a random order is drawn when it starts."""
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = self.rng.permutation(order)
        chunks = [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(len(self))]
        return self._prefetch(chunks) if self.num_workers else (self.dataset[chunk] for chunk in chunks)

    def _prefetch(self, chunks):
        """Submit two batches for each worker ahead and yield them in order; cancel them if the epoch is left early."""
        with ThreadPoolExecutor(self.num_workers) as pool:
            pending: deque[Future] = deque()
            try:
                for chunk in chunks:
                    pending.append(pool.submit(self.dataset.__getitem__, chunk))
                    if len(pending) > 2 * self.num_workers:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def epoch_stats(self) -> EpochStats:
        """What one epoch covers of the text of a WindowDataset."""
        dataset = self.dataset
        return epoch_stats(len(dataset.ids), dataset.max_length, dataset.stride, self.batch_size, self.drop_last)


def create_dataloader_v1(
    txt: str,
    batch_size: int = 4,
    max_length: int = 256,
    stride: int = 128,
    shuffle: bool = True,
    drop_last: bool = True,
    num_workers: int = 0,
    *,
    tokenizer: Any = None,
    rng: np.random.Generator | None = None,
) -> DataLoader:
    """A DataLoader of a text, with the name, arguments and defaults of the book's; by default GPT-2's tokenizer."""
    tokenizer = GPT2Tokenizer.load() if tokenizer is None else tokenizer
    dataset = GPTDatasetV1(txt, tokenizer, max_length, stride)
    return DataLoader(dataset, batch_size, shuffle, drop_last, num_workers, rng)

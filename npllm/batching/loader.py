"""The loader: hands out windows in batches, in a new random order every epoch, reading ahead if asked to.

    text → ids → windows → [batches] → embedding → …

Raschka, section 2.6, listing 2.6.
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from npllm.batching.dataset import GPTDatasetV1
from npllm.batching.windows import account
from npllm.tokenizers.gpt2 import GPT2Tokenizer


class DataLoader:
    """Batches of a dataset: every iteration is one epoch, and yields (inputs, targets), each (B, T).

    dataset      anything with len() that gives a batch for an array of indices, such as WindowDataset
    shuffle      a new order every epoch, drawn from `rng`: the same generator state gives the same epochs
    drop_last    leave out a last batch that is smaller than the others
    num_workers  threads that prepare the next batches meanwhile; the batches and their order stay the same
    rng          a numpy.random.Generator; without one, shuffling is seeded by the operating system

    Raises ValueError where an epoch would be empty.
    """

    def __init__(self, dataset, batch_size=4, shuffle=False, drop_last=False, num_workers=0, rng=None):
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        if len(dataset) == 0:
            raise ValueError("dataset is empty; it must have at least one window")
        if drop_last and batch_size > len(dataset):
            raise ValueError(
                f"batch_size is {batch_size} and the dataset has {len(dataset)} windows; with drop_last there would be "
                "no batch at all (take a smaller batch_size, a smaller stride, or drop_last=False)"
            )
        if rng is not None and not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng is {rng!r}; it must be a numpy.random.Generator")
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.drop_last, self.num_workers = drop_last, num_workers
        self.rng = np.random.default_rng() if rng is None else rng

    def __len__(self):
        """How many batches an epoch has."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self):
        """One epoch. The order is drawn when it starts."""
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = self.rng.permutation(order)
        chunks = [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(len(self))]
        return self._read_ahead(chunks) if self.num_workers else (self.dataset[chunk] for chunk in chunks)

    def _read_ahead(self, chunks):
        """Keep two batches for each worker under way, and yield them in order; stop them if the epoch is left early."""
        with ThreadPoolExecutor(self.num_workers) as pool:
            under_way = deque()
            try:
                for chunk in chunks:
                    under_way.append(pool.submit(self.dataset.__getitem__, chunk))
                    if len(under_way) > 2 * self.num_workers:
                        yield under_way.popleft().result()
                while under_way:
                    yield under_way.popleft().result()
            finally:
                for future in under_way:
                    future.cancel()

    def account(self):
        """What an epoch covers of a WindowDataset's text, an EpochStats."""
        dataset = self.dataset
        return account(len(dataset.ids), dataset.max_length, dataset.stride, self.batch_size, self.drop_last)


def create_dataloader_v1(
    txt,
    batch_size=4,
    max_length=256,
    stride=128,
    shuffle=True,
    drop_last=True,
    num_workers=0,
    *,
    tokenizer=None,
    rng=None,
):
    """A DataLoader over a text, under the book's name and with its arguments; by default with GPT-2's tokenizer."""
    tokenizer = GPT2Tokenizer.load() if tokenizer is None else tokenizer
    dataset = GPTDatasetV1(txt, tokenizer, max_length, stride)
    return DataLoader(dataset, batch_size, shuffle, drop_last, num_workers, rng)

"""Endless batches: epoch after epoch, each in a new random order, from a place that can be written down.

    windows → [shuffle → batch → batch → … → shuffle → …] → training

A training that is interrupted must go on with the batch that would have come next. The place is small: how the random
generator stood when the epoch began, and how many batches of it are done.
"""


class InfiniteBatches:
    """An iterator of batches (inputs, targets), each (B, T), that never ends.

    dataset   anything with len() that gives a batch for an array of indices, such as WindowDataset
    rng       a numpy.random.Generator, which nobody else should use

    A last batch that would be smaller than the others is left out; its windows come in other epochs. Raises ValueError
    where the dataset has fewer windows than a batch.
    """

    def __init__(self, dataset, batch_size, rng):
        if not 1 <= batch_size <= len(dataset):
            raise ValueError(
                f"batch_size is {batch_size}; it must be at least 1 and at most {len(dataset)}, the windows"
            )
        self.dataset, self.batch_size, self.rng = dataset, batch_size, rng
        self._begin_epoch()

    def _begin_epoch(self):
        self._start = self.rng.bit_generator.state
        self._order, self._done = self.rng.permutation(len(self.dataset)), 0

    def __iter__(self):
        """The iterator itself."""
        return self

    def __next__(self):
        """The next batch."""
        if (self._done + 1) * self.batch_size > len(self.dataset):
            self._begin_epoch()
        chosen = self._order[self._done * self.batch_size : (self._done + 1) * self.batch_size]
        self._done += 1
        return self.dataset[chosen]

    def state(self):
        """The place, as a dict of numbers and texts that JSON can hold."""
        return {"epoch_began_with": self._start, "batches_done": self._done}

    def load_state(self, state):
        """Go to a place; the same dataset and batch size are taken for granted."""
        self.rng.bit_generator.state = state["epoch_began_with"]
        self._begin_epoch()
        self._done = state["batches_done"]

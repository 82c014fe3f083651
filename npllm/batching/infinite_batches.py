"""Infinite batches for training: epoch after epoch, each in a new random order, with a state that can be saved.

    windows → [shuffle → batch → batch → … → shuffle → …] → training

A resumed training must continue with the next batch of the interrupted one. The state is small: the state of the random
generator at the beginning of the epoch, and the number of batches since then.
"""

import zlib
from typing import Any

import numpy as np

NUM_COMPARED = 16  # windows, evenly spaced over the dataset


class InfiniteBatches:
    """An iterator of batches (inputs, targets), each (B, T), that never ends.

    Args:
        dataset: any object with `len()` that returns a batch for an array of indices, such as WindowDataset.
        batch_size: the number of windows in every batch.
        rng: a numpy.random.Generator that is used for nothing else.

    An incomplete last batch is dropped; its windows are part of other epochs. Raises ValueError if the dataset has
    fewer windows than a batch.
    """

    def __init__(self, dataset: Any, batch_size: int, rng: np.random.Generator):
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)):
            raise TypeError(f"batch_size is {batch_size!r}; it must be an integer")
        if not 1 <= batch_size <= len(dataset):
            raise ValueError(
                f"batch_size is {batch_size}; it must be at least 1 and at most {len(dataset)}, the number of windows"
            )
        self.dataset, self.batch_size, self.rng = dataset, batch_size, rng
        self._start_epoch()

    def _start_epoch(self):
        self._epoch_rng = self.rng.bit_generator.state
        self._order, self._batches_done = self.rng.permutation(len(self.dataset)), 0

    def __iter__(self) -> "InfiniteBatches":
        """The iterator itself."""
        return self

    def __next__(self) -> tuple[np.ndarray, np.ndarray]:
        """The next batch."""
        if (self._batches_done + 1) * self.batch_size > len(self.dataset):
            self._start_epoch()
        start = self._batches_done * self.batch_size
        self._batches_done += 1
        return self.dataset[self._order[start : start + self.batch_size]]

    def state(self) -> dict[str, Any]:
        """The state, as a dict that JSON can hold."""
        return {"epoch_rng": self._epoch_rng, "batches_done": self._batches_done} | self._data()

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`; raises ValueError as `check_state`."""
        self.check_state(state)
        self.rng.bit_generator.state = state["epoch_rng"]
        self._start_epoch()
        self._batches_done = state["batches_done"]

    def check_state(self, state: dict[str, Any]) -> None:
        """Raise ValueError for a `state()` of another batch size or of another dataset.

        Of a dataset, the number of windows and NUM_COMPARED of its windows are compared. A state of an older npllm
        without these entries is not checked.
        """
        own = self._data()
        for name, what in (("batch_size", "batch_size"), ("num_windows", "the number of windows")):
            if state.get(name, own[name]) != own[name]:
                raise ValueError(f"{what} is {own[name]}; it must be {state[name]}, as when the state was saved")
        if state.get("crc32", own["crc32"]) != own["crc32"]:
            raise ValueError("the dataset has other ids than when the state was saved")

    def _data(self):
        """What a state must have in common with the batches that continue from it."""
        num_windows = len(self.dataset)
        some = np.linspace(0, num_windows - 1, min(NUM_COMPARED, num_windows)).astype(np.int64)
        inputs, targets = (np.ascontiguousarray(array) for array in self.dataset[some])
        crc32 = zlib.crc32(targets.tobytes(), zlib.crc32(inputs.tobytes()))
        return {"batch_size": self.batch_size, "num_windows": num_windows, "crc32": crc32}

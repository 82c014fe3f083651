"""A planted task that needs several lookups at once: the target depends on the tokens at several distances.

    target[t] = table[x[t − d₁], x[t − d₂], …]        a fixed random table, random tokens

The table and these tokens give every target, so the least loss is 0; without attention it is that of a guess.
"""

from dataclasses import dataclass

import numpy as np

IGNORE_INDEX = -100


@dataclass(frozen=True)
class LookupTask:
    """The sizes, and the seed of the table."""

    num_tokens: int = 8
    distances: tuple[int, ...] = (1, 3)
    length: int = 16
    seed: int = 0

    def table(self) -> np.ndarray:
        """The target for each combination of tokens."""
        shape = (self.num_tokens,) * len(self.distances)
        return np.random.default_rng(self.seed).integers(0, self.num_tokens, shape)

    def batch(self, batch_size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets; positions with too few tokens before them have the target −100      (B, T), (B, T)"""
        inputs = rng.integers(0, self.num_tokens, (batch_size, self.length))
        targets, start = np.full_like(inputs, IGNORE_INDEX), max(self.distances)
        tokens = tuple(inputs[:, start - distance : self.length - distance] for distance in self.distances)
        targets[:, start:] = self.table()[tokens]
        return inputs, targets

"""A cache of the ids of pre-tokens: words repeat, and most of them are a single token.

    text → pre-tokens → [keys → ids]

The cached ids of all pre-tokens are stored in one array. A `PretokenTable` gives, for each pre-token, where its ids
begin in this array and how many they are, both packed in one integer. The tokens of the vocabulary are in the cache
from the start: a pre-token that is a token has that token's id. The ids of any other pre-token are computed once and
appended. When more than MAX_CACHED_IDS ids have been appended, the cache is reduced to the vocabulary.
"""

from collections.abc import Callable, Sequence
from itertools import compress

import numpy as np

from npllm.tokenizers.vectorized.pretoken_table import PADDING, PretokenTable
from npllm.tokenizers.vectorized.ragged import gather_segments

MAX_CACHED_IDS = 1 << 18  # beyond the ids of the vocabulary
COUNT_BITS = 8  # an entry of the table is offset << COUNT_BITS | count; a pre-token in it has at most 128 ids
COUNT_MASK = (1 << COUNT_BITS) - 1


class PretokenCache:
    """The ids of short pre-tokens: tokens of a vocabulary, and others as they occur.

    tokens  byte strings, the vocabulary
    ids     their ids, below 2³¹
    """

    def __init__(self, tokens: Sequence[bytes], ids: Sequence[int]):
        is_cacheable = [b"\xff" not in token for token in tokens]
        tokens = list(compress(tokens, is_cacheable))
        self._ids = np.fromiter(compress(ids, is_cacheable), np.int32, len(tokens))
        self._vocabulary_size = len(self._ids)
        lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
        data = np.frombuffer(b"".join(tokens) + PADDING, np.uint8)
        self._vocabulary = data, np.cumsum(lengths) - lengths, lengths
        self.clear()

    def clear(self) -> None:
        """Remove everything but the vocabulary."""
        self._used = self._vocabulary_size
        self._table = PretokenTable.from_arrays(*self._vocabulary, np.arange(self._used) << COUNT_BITS | 1)

    def look_up(
        self,
        data: np.ndarray,
        starts: np.ndarray,
        lengths: np.ndarray,
        merge: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where the ids of each pre-token begin, (n,) int64, and how many they are, (n,) int64.

        For the arguments see `pretoken_table`. Distinct pre-tokens that are not cached are passed to
        `merge(data, starts, lengths)`, which returns their ids, one pre-token's after another's, and how many ids each
        has. A pre-token of more than MAX_BYTES bytes has the result 0, 0. The results are valid until the next call.
        """
        if self._used > self._vocabulary_size + MAX_CACHED_IDS:
            self.clear()

        def new_entries(chosen):
            ids, counts = merge(data, starts[chosen], lengths[chosen])
            offsets = self._append(ids) + np.cumsum(counts) - counts
            return offsets << COUNT_BITS | counts

        entries = self._table.get_or_insert(data, starts, lengths, new_entries)
        return entries >> COUNT_BITS, entries & COUNT_MASK

    def token_ids(self, data: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The ids of byte strings that are tokens of the vocabulary, −1 for others: (n,) int64."""
        entries = self._table.get(data, starts, lengths, default=0)
        ids, single = np.full(len(starts), -1), np.flatnonzero(entries & COUNT_MASK == 1)
        ids[single] = self._ids.take(entries[single] >> COUNT_BITS)
        return ids

    def ids(self, offsets: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """The ids of pre-tokens, one pre-token's after another's: the results of `look_up` → (counts.sum(),) int32."""
        if (counts == 1).all():
            return self._ids.take(offsets)
        return gather_segments(self._ids, offsets, counts)

    def write_temporary(self, ids: np.ndarray) -> int:
        """Write ids after the cached ones and return their offset. They are valid until the next write."""
        self._write(ids)
        return self._used

    def _append(self, ids):
        """Write ids after the cached ones, keep them, and return their offset."""
        self._write(ids)
        self._used += len(ids)
        return self._used - len(ids)

    def _write(self, ids):
        end = self._used + len(ids)
        if end > len(self._ids):
            self._ids = np.concatenate([self._ids[: self._used], np.empty(end, np.int32)])
        self._ids[self._used : end] = ids

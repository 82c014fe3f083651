"""Ids to bytes without a loop over tokens.

    [ids → bytes] → text

The bytes of all tokens of the vocabulary are stored in one array, one token after another. Each id selects a segment of
it, and the bytes of a text are the concatenation of these segments (`ragged`).
"""

from array import array
from collections.abc import Sequence

import numpy as np

from npllm.tokenizers.vectorized.ragged import gather_segments

BLOCK_SIZE = 1 << 15  # ids that are decoded together; their arrays fit into the CPU's caches
MAX_IDS_PER_TOKEN = 8  # an array indexed by id is made if the ids are below this many times the number of tokens


class Decoder:
    """The bytes of the tokens of one vocabulary, given as a dict from ids to byte strings."""

    def __init__(self, token_bytes: dict[int, bytes]):
        tokens = sorted(token_bytes.items())
        self.ids = np.array([token_id for token_id, _ in tokens], np.int64)
        self.data = np.frombuffer(b"".join(token for _, token in tokens), np.uint8)
        self.lengths = np.array([len(token) for _, token in tokens], np.int32)
        self.starts = np.cumsum(self.lengths, dtype=np.int32) - self.lengths
        self.index_of_id = None  # the index of each id in `ids`, −1 for others; only for ids without large gaps
        if self.ids[-1] < MAX_IDS_PER_TOKEN * len(tokens):
            self.index_of_id = np.full(self.ids[-1] + 1, -1, np.int32)
            self.index_of_id[self.ids] = np.arange(len(tokens))

    def decode(self, ids: Sequence[int] | np.ndarray) -> bytes | None:
        """The bytes of a sequence or an array of ids; None if it is empty, or if not all are ids of tokens."""
        try:
            ids = ids if isinstance(ids, np.ndarray) else np.frombuffer(array("I", ids), np.uint32)
        except (TypeError, OverflowError):
            return None
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or not len(ids):
            return None
        if int(ids.min()) < 0 or int(ids.max()) > int(self.ids[-1]):
            return None
        parts = []
        for begin in range(0, len(ids), BLOCK_SIZE):
            part = self._decode_block(ids[begin : begin + BLOCK_SIZE])
            if part is None:
                return None
            parts.append(part)
        return np.concatenate(parts).tobytes()

    def lengths_of(self, ids: np.ndarray) -> np.ndarray:
        """The number of bytes of each token; all must be ids of tokens: (n,) → (n,) int32."""
        return self.lengths.take(self._indices(ids))

    def _decode_block(self, ids):
        """The bytes of an array of ids, (n,) uint8; None if not all are ids of tokens."""
        indices = self._indices(ids)
        known = self.ids.take(indices) == ids if self.index_of_id is None else indices >= 0
        if not known.all():
            return None
        return gather_segments(self.data, self.starts.take(indices), self.lengths.take(indices))

    def _indices(self, ids):
        return np.searchsorted(self.ids, ids) if self.index_of_id is None else self.index_of_id.take(ids)

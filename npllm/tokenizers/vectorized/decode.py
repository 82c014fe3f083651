"""Ids to bytes without a loop over tokens: where in one long row of all tokens' bytes does each byte come from?

    [ids → bytes] → text

The bytes of all tokens stand in one row, token behind token. So a text is made of `stretches` of this row, one for each
id, and all of its bytes are gathered at once.
"""

from array import array

import numpy as np

from npllm.tokenizers.vectorized.ragged import stretches

BLOCK = 1 << 15  # ids; the arrays of a block fit into the processor's cache
SPARSE = 8  # a table with so many times more entries than there are tokens is not made


class Decoder:
    """The bytes of the tokens of one vocabulary: a dict from ids to byte strings."""

    def __init__(self, token_bytes):
        tokens = sorted(token_bytes.items())
        self.ids = np.array([token_id for token_id, _ in tokens], np.int64)
        self.row = np.frombuffer(b"".join(token for _, token in tokens), np.uint8)
        self.length = np.array([len(token) for _, token in tokens], np.int32)
        self.first = np.cumsum(self.length, dtype=np.int32) - self.length
        self.place = None  # of each id among the tokens, where ids have no large gaps
        if self.ids[-1] < SPARSE * len(tokens):
            self.place = np.full(self.ids[-1] + 1, -1, np.int32)
            self.place[self.ids] = np.arange(len(tokens))

    def decode(self, ids):
        """The bytes of many ids, a list or an array of them; None if there is one that no token has."""
        try:
            ids = ids if isinstance(ids, np.ndarray) else np.frombuffer(array("I", ids), np.uint32)
        except (TypeError, OverflowError):
            return None
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or not len(ids):
            return None
        if int(ids.min()) < 0 or int(ids.max()) > int(self.ids[-1]):
            return None
        parts = [self._block(ids[begin : begin + BLOCK]) for begin in range(0, len(ids), BLOCK)]
        return None if any(part is None for part in parts) else np.concatenate(parts).tobytes()

    def lengths_of(self, ids):
        """The number of bytes of each token: ids (n,), which must be tokens', → (n,) int32."""
        return self.length.take(self._places(ids))

    def _block(self, ids):
        places = self._places(ids)
        known = places >= 0 if self.place is not None else self.ids.take(places) == ids
        if not known.all():
            return None
        return self.row.take(stretches(self.first.take(places), self.length.take(places)))

    def _places(self, ids):
        return np.searchsorted(self.ids, ids) if self.place is None else self.place.take(ids)

"""A table from short pre-tokens to integers, in which all pre-tokens of a block are looked up at once.

    text → pre-tokens → [keys → integers]

The key of a pre-token of up to 8 bytes is one 64-bit number: its bytes, followed by bytes 0xFF, which do not occur in
UTF-8. So the keys of all pre-tokens of a block are gathered in one array operation and looked up in another.
Pre-tokens of up to 16, 32, 64 and 128 bytes have keys of 2, 4, 8 and 16 such numbers, each size in a hash table of its
own. Keys contain the bytes themselves, not hashes of them, so different pre-tokens never have equal keys. Only byte
strings that contain 0xFF, and so are no UTF-8, must not be inserted.

In all functions here, `data` is a uint8 array that ends with PADDING, and pre-token i is its segment
data[starts[i] : starts[i] + lengths[i]].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from npllm.tokenizers.vectorized.hash_table import HashTable, Keys

MAX_BYTES = 128  # longer pre-tokens are not in the table
KEY_WORDS = (1, 2, 4, 8, 16)  # 64-bit words of a key, for each of the hash tables
PADDING = bytes(MAX_BYTES)  # follows the data, so that 8 bytes can be read from every position
# UNUSED_BYTES[n] has 0xFF in all but the n lowest bytes. A word whose first n bytes belong to a pre-token is combined
# with it by a bitwise or.
UNUSED_BYTES = np.array([(0xFFFFFFFFFFFFFFFF << 8 * n) & 0xFFFFFFFFFFFFFFFF for n in range(9)], np.uint64)


class PretokenTable:
    """A map from pre-tokens of at most MAX_BYTES bytes to integers."""

    def __init__(self):
        self._tables = [HashTable(num_words) for num_words in KEY_WORDS]

    @classmethod
    def from_arrays(
        cls, data: np.ndarray, starts: np.ndarray, lengths: np.ndarray, values: np.ndarray
    ) -> PretokenTable:
        """A table of these pre-tokens with values (n,). Longer ones than MAX_BYTES are left out."""
        table, words = cls(), words_at_every_byte(data)
        table._tables = [
            HashTable.from_arrays(pretoken_keys(words, starts[chosen], lengths[chosen], num_words), values[chosen])
            for num_words, chosen in by_key_length(lengths)
        ]
        return table

    def get(self, data: np.ndarray, starts: np.ndarray, lengths: np.ndarray, default: int) -> np.ndarray:
        """The values of pre-tokens, (n,) int64, and `default` for those that are not in the table."""
        values, words = np.full(len(starts), default, np.int64), words_at_every_byte(data)
        for table, (num_words, chosen) in zip(self._tables, by_key_length(lengths)):
            values[chosen] = table.get(pretoken_keys(words, starts[chosen], lengths[chosen], num_words), default)
        return values

    def get_or_insert(
        self,
        data: np.ndarray,
        starts: np.ndarray,
        lengths: np.ndarray,
        new_values: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """The values of pre-tokens, (n,) int64, after those that are missing have been inserted.

        `new_values(indices)` is called once if any are missing. Its argument has one index i for each distinct missing
        pre-token, and it returns their values. If it raises, some pre-tokens are in the table with the value 0. For
        pre-tokens of more than MAX_BYTES bytes, the result is 0.
        """
        values, words, missing = np.zeros(len(starts), np.int64), words_at_every_byte(data), []
        for table, (num_words, chosen) in zip(self._tables, by_key_length(lengths)):
            if not len(chosen):
                continue
            keys = pretoken_keys(words, starts[chosen], lengths[chosen], num_words)
            slots, found = table.find(keys)
            values[chosen] = table.values.take(slots)
            absent = np.flatnonzero(~found)
            if len(absent):
                missing.append((table, chosen[absent], [key[absent] for key in keys]))
        if missing:
            _insert_missing(missing, values, new_values)
        return values


def _insert_missing(missing, values, new_values):
    """Insert the missing pre-tokens, a list of (hash table, indices, keys), and set their entries of `values`."""
    slots_and_new = [table.insert(keys) for table, _, keys in missing]
    distinct = [indices[inserted] for (_, indices, _), (_, inserted) in zip(missing, slots_and_new)]
    computed = new_values(np.concatenate(distinct))
    end = 0
    for (table, indices, _), (slots, inserted) in zip(missing, slots_and_new):
        begin, end = end, end + np.count_nonzero(inserted)
        table.values[slots[inserted]] = computed[begin:end]
        values[indices] = table.values.take(slots)


def words_at_every_byte(data: np.ndarray) -> np.ndarray:
    """The 8 bytes from every position as one number: (n,) uint8 → (n − 7,) uint64."""
    overlapping = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
    return overlapping.astype(np.uint64)  # a copy, because unaligned numbers are slower to read


def pretoken_keys(words: np.ndarray, starts: np.ndarray, lengths: np.ndarray, num_words: int) -> Keys:
    """The keys of pre-tokens of up to 8 · num_words bytes; `words` is the result of `words_at_every_byte`."""
    return [
        words.take(starts + 8 * word) | UNUSED_BYTES.take(np.clip(lengths - 8 * word, 0, 8))
        for word in range(num_words)
    ]


def by_key_length(lengths: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """For each hash table, the number of words of its keys and the indices of the pre-tokens that belong to it."""
    shortest = 0
    for num_words in KEY_WORDS:
        yield num_words, np.flatnonzero((lengths > shortest) & (lengths <= 8 * num_words))
        shortest = 8 * num_words

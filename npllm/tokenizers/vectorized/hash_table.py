"""A hash table in which thousands of keys are looked up or inserted at once.

    text → pre-tokens → [keys → slots of a hash table] → ids

Open addressing with linear probing: a multiplicative hash gives the first slot of a key. If that slot holds another
key, the next slot is tried, and so on to the first empty one. A lookup of n keys compares all of them with their first
slots in one array operation, then repeats this with the few keys whose slot holds another key, until every key is
found or has reached an empty slot. The loop runs over probes, not over keys. The table is at most half full, and at
most a quarter full after it has grown, so most keys need one probe.

Keys are compared exactly: each is a row of `num_words` 64-bit words. Knuth, The Art of Computer Programming, volume 3,
section 6.4.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)  # the first word of an empty slot; no key may begin with it
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ divided by the golden ratio (Knuth)
HALF_WORD = np.uint64(32)

Keys = list[np.ndarray]  # n keys: one array of uint64, (n,), for each word of a key


class HashTable:
    """A map from rows of 64-bit words to integers, with array operations over many keys.

    num_words  64-bit words of a key; the first must not be EMPTY
    capacity   number of keys for which the table is allocated; it grows beyond that as needed
    dtype      of the values

    `values[slot]` is the value of the key in a slot. Slots are valid until the next `insert`, which may grow the table.
    """

    def __init__(self, num_words: int = 1, capacity: int = 4, dtype: npt.DTypeLike = np.int64):
        self.num_words, self.dtype = num_words, dtype
        self._allocate(capacity)

    @classmethod
    def from_arrays(cls, keys: Keys, values: np.ndarray) -> HashTable:
        """A table of n keys with values (n,). Of equal keys, one keeps its value."""
        table = cls(len(keys), capacity=len(values), dtype=values.dtype)
        slots, _ = table.insert(keys)
        table.values[slots] = values
        return table

    def _allocate(self, capacity):
        bits = max(4, (4 * capacity).bit_length())
        self.shift, self.slot_mask = np.uint64(64 - bits), (1 << bits) - 1
        self.columns = [np.full(1 << bits, EMPTY) for _ in range(self.num_words)]
        self.values = np.zeros(1 << bits, self.dtype)
        self._claims = np.empty(1 << bits, np.int32)  # used by `insert` alone
        self.num_keys = 0

    def find(self, keys: Keys) -> tuple[np.ndarray, np.ndarray]:
        """The slot of each key, (n,) int64, and whether the key is in the table, (n,) bool.

        The slot of a missing key is the empty one where its search ended.
        """
        slots = self._first_slots(keys)
        first = self.columns[0].take(slots)
        found = self._equal(keys, slots, first)
        searching = np.flatnonzero(~found & (first != EMPTY))
        while len(searching):
            slots[searching] = (slots[searching] + 1) & self.slot_mask
            some, at = [key[searching] for key in keys], slots[searching]
            first = self.columns[0].take(at)
            found[searching] = equal = self._equal(some, at, first)
            searching = searching[~equal & (first != EMPTY)]
        return slots, found

    def insert(self, keys: Keys) -> tuple[np.ndarray, np.ndarray]:
        """The slot of each key, (n,) int64, and whether this key was inserted, (n,) bool.

        Keys that are missing are inserted with the value 0. Equal keys get one slot; one of them counts as inserted.
        Where several missing keys reach the same empty slot, each writes its index into `_claims[slot]`, and the last
        write remains: that key takes the slot. The others compare themselves with it, and probe on if they differ.
        """
        count = len(keys[0])
        if 2 * (self.num_keys + count) > self.slot_mask:
            self._grow(self.num_keys + count)
        slots, found = self.find(keys)
        inserted, waiting = np.zeros(count, bool), np.flatnonzero(~found)
        while len(waiting):
            at = slots[waiting]
            empty = self.columns[0].take(at) == EMPTY
            claimants, claimed = waiting[empty], at[empty]
            self._claims[claimed] = claimants
            winners = claimants[self._claims[claimed] == claimants]
            for column, key in zip(self.columns, keys):
                column[slots[winners]] = key[winners]
            inserted[winners] = True
            self.num_keys += len(winners)
            waiting = waiting[~self._equal([key[waiting] for key in keys], at, self.columns[0].take(at))]
            slots[waiting] = (slots[waiting] + 1) & self.slot_mask
        return slots, inserted

    def get(self, keys: Keys, default: int) -> np.ndarray:
        """The values of keys, (n,), and `default` for missing keys."""
        slots, found = self.find(keys)
        values = self.values.take(slots)
        values[~found] = default
        return values

    def _first_slots(self, keys):
        mixed = keys[0]
        for key in keys[1:]:
            mixed = ((mixed * MULTIPLIER) ^ (mixed >> HALF_WORD)) + key
        return ((mixed * MULTIPLIER) >> self.shift).astype(np.int64)

    def _equal(self, keys, slots, first):
        """Whether the slots hold these keys; `first` are the first words in the slots."""
        equal = first == keys[0]
        for column, key in zip(self.columns[1:], keys[1:]):
            equal &= column.take(slots) == key
        return equal

    def _grow(self, capacity):
        used = np.flatnonzero(self.columns[0] != EMPTY)
        keys, values = [column[used] for column in self.columns], self.values[used]
        self._allocate(capacity)
        if len(used):
            slots, _ = self.insert(keys)
            self.values[slots] = values

"""A table from numbers to numbers in which thousands of keys are looked up at once.

    text → pieces → [keys → places in a table] → ids

Open addressing: a key's place comes from a multiplication, which spreads keys over the table; if another key sits
there, the next place is tried, and so on to the first free one. Asking for n keys is one step for all of them, then
one more for the few that met another key, until nobody is left: no loop over keys, but a short one over tries. The
table is never more than half full, and begins at most a quarter full, so that most keys are found at the first try.

Keys are exact: a row of `words` 64-bit words, compared whole. Knuth, The Art of Computer Programming, volume 3, 6.4.
"""

import numpy as np

FREE = np.uint64(0xFFFFFFFFFFFFFFFF)  # the first word of a place that is free; no key begins with it
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ divided by the golden ratio (Knuth)
FOLD = np.uint64(32)


class Table:
    """Rows of 64-bit words to integers; `keys` below are lists of `words` arrays of uint64, one a word."""

    def __init__(self, words=1, room=4, dtype=np.int32):
        self.words, self.dtype = words, dtype
        self._make_room(room)

    @classmethod
    def of(cls, keys, values):
        """A table of keys (n,) with values (n,); of equal keys, one counts."""
        table = cls(len(keys), room=len(values))
        table.values[table.add(keys)] = values
        return table

    def _make_room(self, number):
        bits = max(4, (4 * number).bit_length())
        self.shift, self.last = np.uint64(64 - bits), (1 << bits) - 1
        self.columns = [np.full(1 << bits, FREE) for _ in range(self.words)]
        self.values = np.zeros(1 << bits, self.dtype)
        self.used = 0

    def find(self, keys):
        """The place of each key, (n,) int64, and a boolean array (n,): is it there?

        The place of a key that is missing is the free one where the search for it ended.
        """
        places = self._first_places(keys)
        first = self.columns[0].take(places)
        there = self._equal(keys, places, first)
        searching = np.flatnonzero(~there & (first != FREE))
        while len(searching):
            places[searching] = (places[searching] + 1) & self.last
            some, at = [key[searching] for key in keys], places[searching]
            first = self.columns[0].take(at)
            there[searching] = found = self._equal(some, at, first)
            searching = searching[~found & (first != FREE)]
        return places, there

    def add(self, keys):
        """Make places for keys that are missing (one may come several times) and return them, (n,) int64."""
        number = len(keys[0])
        if 2 * (self.used + number) > self.last:
            self._grow(self.used + number)
        places, there = self.find(keys)
        waiting = np.flatnonzero(~there)
        while len(waiting):
            at = places[waiting]
            free = self.columns[0].take(at) == FREE
            claims = self.values  # of keys that want one free place, the last to write its name gets it
            claims[at[free]] = waiting[free]
            winners = waiting[free][claims[at[free]] == waiting[free]]
            for column, key in zip(self.columns, keys):
                column[places[winners]] = key[winners]
            self.used += len(winners)
            # the others look again: at the same place stands their own key now, or another one
            some = [key[waiting] for key in keys]
            others = ~self._equal(some, at, self.columns[0].take(at))
            waiting = waiting[others]
            places[waiting] = (places[waiting] + 1) & self.last
        return places

    def get(self, keys, default):
        """The values of keys, (n,) int64, and `default` for those that are missing."""
        places, there = self.find(keys)
        values = self.values.take(places)
        values[~there] = default
        return values

    def _first_places(self, keys):
        mixed = keys[0]
        for key in keys[1:]:
            mixed = ((mixed * SPREAD) ^ (mixed >> FOLD)) + key
        return ((mixed * SPREAD) >> self.shift).astype(np.int64)

    def _equal(self, keys, places, first):
        """Do these keys stand at these places, where the first words are `first`?"""
        equal = first == keys[0]
        for column, key in zip(self.columns[1:], keys[1:]):
            equal &= column.take(places) == key
        return equal

    def _grow(self, number):
        taken = np.flatnonzero(self.columns[0] != FREE)
        keys, values = [column[taken] for column in self.columns], self.values[taken]
        self._make_room(number)
        if len(taken):
            self.values[self.add(keys)] = values

"""What a piece becomes, remembered: words come again and again, and most of them are one token.

    text → pieces → [keys → ids]

A piece of up to 8 bytes is a number: its bytes, and 0xFF, which UTF-8 never uses, behind them. So all pieces of a text
are gathered in one step, as numbers, and looked up in one step. Pieces of up to 16, 32, 64 and 128 bytes are 2, 4, 8
and 16 such numbers, in tables of their own. The keys are the pieces themselves, not hashes of them: nothing can be
confused. (A token with the byte 0xFF is the only one that could be: it stands in no text, and so not in the tables.)

All ids that are remembered stand in one row; what a table holds of a piece is where its ids begin in the row, and how
many they are. The tokens of the vocabulary are there from the beginning, each with its own id, for a piece that is a
token is that token. What else comes is merged once and added. If a text has more different pieces than may be
remembered, all but the vocabulary is forgotten, and it begins anew.
"""

import numpy as np

from npllm.tokenizers.vectorized.hash_table import Table
from npllm.tokenizers.vectorized.ragged import stretches

LONGEST = 128  # bytes of a piece that is remembered
WORDS = (1, 2, 4, 8, 16)  # 64-bit words of a key, in each of the tables
REMEMBERED = 1 << 18  # ids of pieces that are no tokens
PADDING = bytes(LONGEST)  # behind the bytes, so that whole words can be read at each place
# What a word is combined with (bitwise or) if so many of its 8 bytes belong to the piece
FILLING = np.array([(0xFFFFFFFFFFFFFFFF << 8 * number) & 0xFFFFFFFFFFFFFFFF for number in range(9)], np.uint64)
COUNT_BITS = 8


class PieceMemory:
    """The ids of short pieces: tokens of a vocabulary, and what `merge` made of others.

    tokens  list of byte strings, the vocabulary
    ids     (V,) int32, their ids
    most    how many more ids are remembered (default: REMEMBERED)
    """

    def __init__(self, tokens=(), ids=(), most=None):
        in_texts = [place for place, token in enumerate(tokens) if b"\xff" not in token]
        tokens, ids = [tokens[place] for place in in_texts], [ids[place] for place in in_texts]
        lengths = np.array([len(token) for token in tokens], np.int64)
        self._row, self._vocabulary_size, self._most = np.array(ids, np.int32), len(ids), most
        self._used = len(ids)
        data = np.frombuffer(b"".join(tokens) + PADDING, np.uint8)
        starts = np.cumsum(lengths) - lengths
        self._vocabulary = data, starts, lengths
        self.clear_cache()

    def clear_cache(self):
        """Keep the vocabulary alone."""
        data, starts, lengths = self._vocabulary
        words = every_word(data)
        self._used = self._vocabulary_size
        self._tables = []
        for number, chosen in by_length(lengths):
            keys = keys_of(words, starts[chosen], lengths[chosen], number)
            self._tables.append(Table.of(keys, chosen << COUNT_BITS | 1))

    def look_up(self, data, starts, lengths, merge):
        """Where in the row the ids of each piece begin, and how many they are: two times (n,) int64, 0 for long pieces.

        `data` is uint8 with PADDING behind, in which piece i has `lengths[i]` bytes from `starts[i]`. For pieces that
        are new, each once, `merge(data, starts, lengths)` is asked for their ids (m,) and how many each has.
        """
        if self._used > self._vocabulary_size + (REMEMBERED if self._most is None else self._most):
            self.clear_cache()
        found = np.zeros(len(starts), np.int64)
        words, unknown = every_word(data), []
        for table, (number, chosen) in zip(self._tables, by_length(lengths)):
            if not len(chosen):
                continue
            keys = keys_of(words, starts[chosen], lengths[chosen], number)
            places, there = table.find(keys)
            found[chosen] = table.values.take(places)
            new = np.flatnonzero(~there)
            if len(new):
                unknown.append((table, chosen[new], [key[new] for key in keys]))
        if unknown:
            self._learn(unknown, found, data, starts, lengths, merge)
        return found >> COUNT_BITS, found & ((1 << COUNT_BITS) - 1)

    def find(self, data, starts, lengths):
        """The ids of pieces that are remembered as one token, −1 for all others: arrays as for look_up → (n,) int64."""
        ids, words = np.full(len(starts), -1), every_word(data)
        for table, (number, chosen) in zip(self._tables, by_length(lengths)):
            places, there = table.find(keys_of(words, starts[chosen], lengths[chosen], number))
            entries = table.values.take(places[there])
            single = entries & ((1 << COUNT_BITS) - 1) == 1
            ids[chosen[there][single]] = self._row.take(entries[single] >> COUNT_BITS)
        return ids

    def _learn(self, unknown, found, data, starts, lengths, merge):
        """Merge the unknown pieces of all tables in one go, each once, and note what comes out."""
        places, once = [], []
        for table, pieces, keys in unknown:
            places.append(table.add(keys))
            table.values[places[-1]] = pieces  # of equal pieces, one is left here
            once.append(table.values[places[-1]] == pieces)
        representatives = np.concatenate([pieces[chosen] for (_, pieces, _), chosen in zip(unknown, once)])
        ids, counts = merge(data, starts[representatives], lengths[representatives])
        entries = (self._used + np.cumsum(counts) - counts) << COUNT_BITS | counts
        self._append(ids)
        begin = 0
        for (table, pieces, _), at, chosen in zip(unknown, places, once):
            number = np.count_nonzero(chosen)
            table.values[at[chosen]] = entries[begin : begin + number]
            found[pieces] = table.values.take(at)
            begin += number

    def _append(self, ids):
        self.lend(ids)
        self._used += len(ids)

    def lend(self, ids):
        """Put ids at the end of the row and return where they begin; what comes next is written over them."""
        end = self._used + len(ids)
        if end > len(self._row):
            self._row = np.concatenate([self._row[: self._used], np.empty(end, np.int32)])
        self._row[self._used : end] = ids
        return self._used

    def ids(self, begins, counts):
        """The ids of pieces, one piece's after the other's: what look_up gave → (counts.sum(),) int32."""
        if (counts == 1).all():
            return self._row.take(begins)
        return self._row.take(stretches(begins, counts))


def every_word(data):
    """The 8 bytes from every place as a number: (n,) uint8 → (n − 7,) uint64."""
    overlapping = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
    return overlapping.astype(np.uint64)  # copied once, at even addresses, because reading is faster there


def keys_of(words, starts, lengths, number):
    """The keys of pieces of up to 8 · number bytes: `number` arrays (n,) uint64."""
    return [words.take(starts + 8 * word) | FILLING.take(np.clip(lengths - 8 * word, 0, 8)) for word in range(number)]


def by_length(lengths):
    """For each table, the number of words of its keys, and which pieces are its own."""
    shortest = 0
    for number in WORDS:
        yield number, np.flatnonzero((lengths > shortest) & (lengths <= 8 * number))
        shortest = 8 * number

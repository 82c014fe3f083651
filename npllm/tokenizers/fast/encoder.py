"""Text to ids without a loop over pieces: block by block, everything that a block has at once.

    [text → pieces → keys → ids]

A block of a quarter of a million characters is read into kinds (`character_kinds`) and cut into pieces (`boundaries`,
`modern_boundaries`); the pieces are looked up as numbers (`piece_memory`), and those that are new are merged, all
together (`merging`). The arrays of a block fit into the processor's cache, those of a whole text would not.

A block must end where a piece begins for certain, whatever follows: behind a letter or number, where something else
begins. If there is no such place in it, the block is doubled. So a text is read once, from left to right, and a single
piece of many megabytes is a block by itself.
"""

from threading import Lock

import numpy as np

from npllm.tokenizers.fast.boundaries import APOSTROPHE, NO_BREAKS, gpt2_starts
from npllm.tokenizers.fast.character_kinds import kind_table, read_characters
from npllm.tokenizers.fast.merge_tree import find_merges
from npllm.tokenizers.fast.merging import Merger
from npllm.tokenizers.fast.modern_boundaries import CL100K, O200K, modern_starts, sure_starts
from npllm.tokenizers.fast.piece_memory import LONGEST, PADDING, PieceMemory
from npllm.tokenizers.split import CL100K_PATTERN, GPT2_PATTERN, O200K_PATTERN

BLOCK = 1 << 18  # characters; smaller blocks are lost in calls of NumPy, larger ones fall out of the cache
HIGHEST_ID = (1 << 31) - 2
STARTS = {
    GPT2_PATTERN: gpt2_starts,
    CL100K_PATTERN: lambda codes, breaks: modern_starts(codes, CL100K, breaks),
    O200K_PATTERN: lambda codes, breaks: modern_starts(codes, O200K, breaks),
}


def make_encoder(ranks, pattern, merges=None):
    """An Encoder for a vocabulary, or None if it has none: another pattern, or ranks that are not in order of merging.

    `merges` are (left, right) in the order of their ranks, where they are known; else they are found from the ranks.
    """
    if pattern not in STARTS or max(ranks.values()) > HIGHEST_ID:
        return None
    memory = PieceMemory(list(ranks), list(ranks.values()))
    if merges is None:
        found = find_merges(ranks, memory)
    else:
        found = tuple(np.array(row) for row in zip(*((ranks[a], ranks[b], ranks[a + b]) for a, b in merges)))
    if not found:
        return None
    id_of_byte = [ranks[bytes([byte])] for byte in range(256)]
    return Encoder(ranks, STARTS[pattern], Merger(*found, id_of_byte), memory)


class Encoder:
    """The fast path of one vocabulary: `starts` says where pieces begin, `merger` merges, `memory` knows what came."""

    def __init__(self, ranks, starts, merger, memory):
        self.ranks, self.starts, self.merger, self.memory = ranks, starts, merger, memory
        self.longest_token = max(map(len, ranks))
        self.one_at_a_time = Lock()  # threads that share a tokenizer share its memory

    def forget(self):
        """Remember the tokens of the vocabulary alone."""
        with self.one_at_a_time:
            self.memory.forget()

    def blocks(self, text):
        """The ids of a text without surrogates, block by block: arrays of int32."""
        position, size = 0, BLOCK
        while position < len(text):
            block = text[position : position + size]
            data, codes, offsets = read_characters(block)
            last = position + size >= len(text)
            end = len(block) if last else last_sure_start(codes)
            if end == 0:
                size *= 2
                continue
            starts = self.starts(codes[:end] if last else codes, NO_BREAKS)
            starts = starts[: np.searchsorted(starts, end)]
            ids, _ = self._encode(data, codes, offsets, starts, end)
            yield ids
            position, size = position + end, BLOCK

    def batch(self, texts):
        """The ids of several texts without surrogates, a list for each; short ones are encoded together."""
        done, waiting, size = [], [], 0
        for text in texts:
            if len(text) >= BLOCK:
                done += self._together(waiting)
                done.append([token for ids in self.blocks(text) for token in ids.tolist()])
                waiting, size = [], 0
                continue
            waiting.append(text)
            size += len(text) + 1
            if size >= BLOCK:
                done += self._together(waiting)
                waiting, size = [], 0
        return done + self._together(waiting)

    def _together(self, texts):
        """Texts in one block, with a line break behind each that is no part of them."""
        if not texts:
            return []
        data, codes, offsets = read_characters("\n".join([*texts, ""]))
        breaks = np.cumsum([len(text) + 1 for text in texts]) - 1
        starts = self.starts(codes, breaks)
        ids, counts = self._encode(data, codes, offsets, starts, len(codes))
        ends = np.cumsum(counts)
        at = np.searchsorted(starts, breaks)  # the piece that each line break is
        stops, ids = (ends[at] - counts[at]).tolist(), ids.tolist()
        begins = [0, *ends[at].tolist()]
        return [ids[begin:stop] for begin, stop in zip(begins, stops)]

    def _encode(self, data, codes, offsets, starts, end):
        """The ids of the pieces that begin at `starts`, and how many each has."""
        if offsets is not None:
            starts, end = offsets.take(starts), offsets[end]
        lengths = np.empty_like(starts)
        np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
        lengths[-1] = end - starts[-1]
        text = np.frombuffer(data + PADDING, np.uint8)
        long = np.flatnonzero(lengths > LONGEST)
        with self.one_at_a_time:
            begins, counts = self.memory.look_up(text, starts, lengths, self._merge)
            if len(long):  # merged each time
                ids, counts[long] = self._merge(text, starts[long], lengths[long])
                begins[long] = self.memory.lend(ids) + np.cumsum(counts[long]) - counts[long]
            return self.memory.ids(begins, counts), counts

    def _merge(self, text, starts, lengths):
        """The ids of pieces that are not remembered, one piece's after the other's, and how many each has."""
        ends = np.cumsum(lengths)
        places = np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1])
        at_end = np.zeros(ends[-1], bool)
        at_end[ends - 1] = True
        ids, at_end = self.merger.merge(text.take(places), at_end)
        counts = np.diff(np.flatnonzero(at_end), prepend=-1)
        if self.longest_token > LONGEST:
            return self._whole_tokens(text, starts, lengths, ids, counts)
        return ids, counts

    def _whole_tokens(self, text, starts, lengths, ids, counts):
        """A long piece that is a token by itself is that token, even if no merges lead to it."""
        possible = np.flatnonzero((lengths > LONGEST) & (lengths <= self.longest_token) & (counts > 1))
        for piece in possible.tolist():
            token = self.ranks.get(text[starts[piece] : starts[piece] + lengths[piece]].tobytes())
            if token is not None:
                begin = counts[:piece].sum()
                ids = np.concatenate([ids[:begin], [token], ids[begin + counts[piece] :]])
                counts[piece] = 1
        return ids, counts


def last_sure_start(codes):
    """The last place of a block where a piece begins whatever follows and whatever came before, 0 if there is none."""
    for size in (1 << 8, len(codes)):  # mostly there is one near the end
        tail = codes[-size:]
        found = np.flatnonzero(sure_starts(kind_table().take(tail)) & (tail != APOSTROPHE))
        if len(found):
            return len(codes) - len(tail) + int(found[-1])
    return 0

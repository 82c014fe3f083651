"""Text to ids without a loop over pieces: block by block, everything that a block has at once.

    [text → blocks → pieces → keys → ids]

A block is cut into its pieces (`blocks`), the pieces are looked up as numbers (`piece_memory`), and those that are new
are merged, all together (`merging`).
"""

from threading import Lock

import numpy as np

from npllm.tokenizers.byte_pair.merge import merge_by_rank_heap
from npllm.tokenizers.vectorized.blocks import STARTS, blocks_of, bundles, joined_block
from npllm.tokenizers.vectorized.merge_tree import find_merges
from npllm.tokenizers.vectorized.parallel_merge import NEVER, Merger
from npllm.tokenizers.vectorized.pretoken_cache import LONGEST, PieceMemory
from npllm.tokenizers.vectorized.ragged import stretches

SMALL, SPARSE = 1 << 20, 8  # ids up to these, or up to so many times their number, go into tables by id
HIGHEST_ID = int(NEVER) - 1  # NEVER and what is above it are no ids


def make_encoder(ranks, pattern, merges=None):
    """An Encoder for a vocabulary, or None if it has none.

    It has none for another pattern, for ranks that are not in the order of merging, and for ids with very large gaps.

    `merges` are (left, right) in the order of their ranks, where they are known; else they are found from the ranks.
    """
    highest = max(ranks.values())
    if pattern not in STARTS or highest > HIGHEST_ID or highest > max(SMALL, SPARSE * len(ranks)):
        return None
    memory = PieceMemory(list(ranks), list(ranks.values()))
    if merges is None:
        found = find_merges(ranks, memory)
    else:
        found = np.array([(ranks[a], ranks[b], ranks[a + b]) for a, b in merges], np.int64).reshape(-1, 3).T
    if found is None:
        return None
    made = set(found[2].tolist())
    unmade = {token: rank for token, rank in ranks.items() if len(token) > LONGEST and rank not in made}
    id_of_byte = [ranks[bytes([byte])] for byte in range(256)]
    return Encoder(ranks, STARTS[pattern], Merger(*found, id_of_byte), memory, unmade)


class Encoder:
    """The fast path of one vocabulary.

    ranks      the vocabulary
    starts_of  says where pieces begin
    merger     merges
    memory     knows what came
    unmade     the tokens too long for the memory that no merges lead to, mostly none: from byte strings to ids
    """

    def __init__(self, ranks, starts_of, merger, memory, unmade):
        self.ranks, self.starts_of, self.merger, self.memory, self.unmade = ranks, starts_of, merger, memory, unmade
        self.one_at_a_time = Lock()  # threads that share a tokenizer share its memory

    def clear_cache(self):
        """Remember the tokens of the vocabulary alone."""
        with self.one_at_a_time:
            self.memory.clear_cache()

    def encode_blocks(self, text):
        """The ids of a text without surrogates, block by block: arrays of int32."""
        for block in blocks_of(text, self.starts_of):
            yield self._encode(block)[0]

    def encode_batch(self, texts):
        """The ids of several texts without surrogates, a list for each in turn; short ones are encoded together."""
        for bundle in bundles(texts):
            if len(bundle) == 1:
                yield [token for ids in self.encode_blocks(bundle[0]) for token in ids.tolist()]
            else:
                yield from self._together(bundle)

    def _together(self, texts):
        """The ids of texts that share a block."""
        block, breaks = joined_block(texts, self.starts_of)
        ids, counts = self._encode(block)
        ends = np.cumsum(counts)[breaks]
        stops, ids = (ends - counts[breaks]).tolist(), ids.tolist()
        begins = [0, *ends.tolist()]
        return [ids[begin:stop] for begin, stop in zip(begins, stops)]

    def _encode(self, block):
        """The ids of a block's pieces, and how many each has."""
        data, starts, lengths = block
        long = np.flatnonzero(lengths > LONGEST)
        with self.one_at_a_time:
            try:
                begins, counts = self.memory.look_up(data, starts, lengths, self._merge)
                if len(long):  # merged each time
                    ids, counts[long] = self._merge(data, starts[long], lengths[long])
                    begins[long] = self.memory.lend(ids) + np.cumsum(counts[long]) - counts[long]
                return self.memory.ids(begins, counts), counts
            except BaseException:  # Ctrl-C, too: a piece may stand in the memory without its ids
                self.memory.clear_cache()
                raise

    def _merge(self, data, starts, lengths):
        """The ids of pieces that are not remembered, one piece's after the other's, and how many each has."""
        joined = data.take(stretches(starts, lengths))
        at_end = np.zeros(len(joined), bool)
        at_end[np.cumsum(lengths) - 1] = True
        ids, at_end, left = self.merger.merge(joined, at_end)
        ends = np.flatnonzero(at_end)
        counts = np.diff(ends, prepend=-1)
        others = {}  # pieces whose ids are found in another way
        for piece in np.unique(np.searchsorted(ends, np.flatnonzero(left))).tolist():
            tokens = merge_by_rank_heap(data[starts[piece] : starts[piece] + lengths[piece]].tobytes(), self.ranks)
            others[piece] = [self.ranks[token] for token in tokens]
        for piece in np.flatnonzero(np.isin(lengths, [*map(len, self.unmade)])).tolist() if self.unmade else ():
            token = data[starts[piece] : starts[piece] + lengths[piece]].tobytes()
            if token in self.unmade:
                others[piece] = [self.unmade[token]]
        return _replaced(ids, counts, others)


def _replaced(ids, counts, others):
    """Other ids for some pieces: a dict from the numbers of pieces to lists of ids."""
    ends, parts, begin = np.cumsum(counts), [], 0
    for piece, new in sorted(others.items()):
        parts += [ids[begin : ends[piece] - counts[piece]], new]
        begin = ends[piece]
    for piece, new in others.items():
        counts[piece] = len(new)
    return np.concatenate([*parts, ids[begin:]]).astype(np.int32, copy=False), counts

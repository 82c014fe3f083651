"""Text to ids without a loop over pre-tokens: all pre-tokens of a block at once.

    [text → blocks → pre-tokens → keys → ids]

A block is divided into pre-tokens (`blocks`), these are looked up in a cache (`pretoken_cache`), and those that are not
in it are merged together (`parallel_merge`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from threading import Lock
from weakref import WeakSet

import numpy as np

from npllm.tokenizers.byte_pair.encode import PlainEncoder
from npllm.tokenizers.byte_pair.merge import merge_by_rank_heap
from npllm.tokenizers.vectorized.blocks import group_texts, join_into_block, split_into_blocks
from npllm.tokenizers.vectorized.merge_tree import find_irregular, find_merges, ids_of_bytes
from npllm.tokenizers.vectorized.parallel_merge import MAX_ID, ParallelMerger
from npllm.tokenizers.vectorized.pretoken_cache import PretokenCache
from npllm.tokenizers.vectorized.pretoken_table import MAX_BYTES
from npllm.tokenizers.vectorized.pretokenizers import Pretokenizer, find_pretokenizer
from npllm.tokenizers.vectorized.ragged import gather_segments

# Some arrays are indexed by id. Their size is acceptable if the highest id is at most one of:
MAX_SMALL_ID = 1 << 20
MAX_IRREGULAR = 1000  # tokens that come before one of their parts; each is searched in every new pre-token
MAX_IDS_PER_TOKEN = 8  # times the number of tokens


def make_encoder(plain: PlainEncoder, merges: Sequence[tuple[bytes, bytes]] | None = None) -> Encoder | None:
    """An Encoder that gives the ids of a plain one, or None if the vectorized algorithm does not apply.

    It applies to the patterns of `pretokenizers`, to ranks in which nearly every token comes after its two parts, and
    to ids without very large gaps. `merges` are the pairs (left, right) in the order of their ranks; without them, they
    are recovered from the ranks.
    """
    ranks, whole, pretokenizer = plain.ranks, plain.whole, find_pretokenizer(plain.pattern)
    highest = max(*whole.values(), *ranks.values())
    if pretokenizer is None or highest > min(MAX_ID, max(MAX_SMALL_ID, MAX_IDS_PER_TOKEN * len(ranks))):
        return None
    cache = PretokenCache(list(whole), list(whole.values()))
    if merges is None:
        found = find_merges(ranks, cache)
    else:
        found = np.array([(ranks[a], ranks[b], ranks[a + b]) for a, b in merges], np.int64).reshape(-1, 3).T
    irregular = find_irregular(found[0], found[1], found[2], ranks)
    if len(irregular) > MAX_IRREGULAR:
        return None
    left, right, ids = found[:, ~np.isin(found[2], list(irregular.values()))]
    with_merge = set(ids.tolist())
    unmergeable = {token: rank for token, rank in whole.items() if len(token) > MAX_BYTES and rank not in with_merge}
    merger = ParallelMerger(left, right, ids, ids_of_bytes(ranks, highest + 1))
    return Encoder(plain, pretokenizer, merger, cache, unmergeable, list(irregular))


class Encoder:
    """The vectorized encoder of one vocabulary, built by `make_encoder`.

    plain         the plain encoder of the same vocabulary
    pretokenizer  gives the starts of pre-tokens
    merger        merges the bytes of pre-tokens
    cache         of the ids of pre-tokens
    unmergeable   tokens that are too long for the cache and that no merge produces, with their ids; usually none
    irregular     tokens that come before one of their parts: `merger` does not produce them, so pre-tokens that contain
                  one are encoded by `plain`; Llama 3 has 81, most vocabularies none
    """

    def __init__(
        self,
        plain: PlainEncoder,
        pretokenizer: Pretokenizer,
        merger: ParallelMerger,
        cache: PretokenCache,
        unmergeable: dict[bytes, int],
        irregular: Sequence[bytes] = (),
    ):
        self.plain, self.pretokenizer, self.merger = plain, pretokenizer, merger
        self._is_missing = np.isin(np.arange(256), list(plain.missing))
        self.cache, self.unmergeable, self.irregular = cache, unmergeable, irregular
        self._lock = Lock()  # threads that share a tokenizer share its cache
        _ENCODERS.add(self)

    def clear_cache(self) -> None:
        """Reduce the cache to the tokens of the vocabulary."""
        with self._lock:
            self.cache.clear()

    def reset_after_fork(self) -> None:
        """In a child process: release a lock that a thread of the parent held, which the child does not have."""
        if self._lock.locked():
            self._lock = Lock()
            self.cache.clear()  # that thread may have been changing it

    def encode_blocks(self, text: str) -> Iterator[np.ndarray]:
        """The ids of a text without surrogates, block by block: arrays of int32."""
        for block in split_into_blocks(text, self.pretokenizer):
            yield self._encode(*block)[0]

    def encode_batch(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """The ids of each text, in order; short texts are encoded together. The texts must have no surrogates."""
        for group in group_texts(texts):
            if len(group) == 1:
                yield [token_id for ids in self.encode_blocks(group[0]) for token_id in ids.tolist()]
            else:
                yield from self._encode_group(group)

    def _encode_group(self, texts):
        """The ids of texts that share a block, as a list of lists."""
        block, separators = join_into_block(texts, self.pretokenizer)
        ids, counts = self._encode(*block)
        ends = np.cumsum(counts)[separators]
        stops, ids = (ends - counts[separators]).tolist(), ids.tolist()
        begins = [0, *ends.tolist()]
        return [ids[begin:stop] for begin, stop in zip(begins, stops)]

    def _encode(self, data, starts, lengths):
        """The ids of a block's pre-tokens, one pre-token's after another's, and how many ids each has."""
        long = np.flatnonzero(lengths > MAX_BYTES)
        with self._lock:
            try:
                offsets, counts = self.cache.look_up(data, starts, lengths, self._merge)
                if len(long):  # not cached
                    ids, counts[long] = self._merge(data, starts[long], lengths[long])
                    offsets[long] = self.cache.write_temporary(ids) + np.cumsum(counts[long]) - counts[long]
                return self.cache.ids(offsets, counts), counts
            except BaseException:  # including Ctrl-C: the cache may contain pre-tokens whose ids are missing
                self.cache.clear()
                raise

    def _merge(self, data, starts, lengths):
        """The ids of pre-tokens that are not cached, one pre-token's after another's, and how many ids each has."""
        joined = gather_segments(data, starts, lengths)
        is_last = np.zeros(len(joined), bool)
        is_last[np.cumsum(lengths) - 1] = True
        ids, is_last, unfinished = self.merger.merge(joined, is_last)
        ends = np.flatnonzero(is_last)
        counts = np.diff(ends, prepend=-1)

        def pretoken(index):
            return data[starts[index] : starts[index] + lengths[index]].tobytes()

        replacements = {}  # for pre-tokens that the merger does not encode completely, or not at all
        for index in np.unique(np.searchsorted(ends, np.flatnonzero(unfinished))).tolist():
            ranks = self.plain.ranks
            replacements[index] = [ranks[token] for token in merge_by_rank_heap(pretoken(index), ranks)]
        if self.unmergeable:
            for index in np.flatnonzero(np.isin(lengths, [*map(len, self.unmergeable)])).tolist():
                if pretoken(index) in self.unmergeable:
                    replacements[index] = [self.unmergeable[pretoken(index)]]
        if self.plain.missing:
            for index in self._with_missing_bytes(joined, lengths):
                replacements[index] = self.plain.encode_pretoken(pretoken(index))
        if self.irregular:
            for index in self._with_irregular_tokens(joined, lengths):
                replacements[index] = self.plain.encode_pretoken(pretoken(index))
        return _replace_ids(ids, counts, replacements)

    def _with_irregular_tokens(self, joined, lengths):
        """The indices of pre-tokens that contain the bytes of an irregular token, and perhaps of some others."""
        data, positions = joined.tobytes(), []
        for token in self.irregular:
            position = data.find(token)
            while position >= 0:
                positions.append(position)
                position = data.find(token, position + 1)
        return np.unique(np.searchsorted(np.cumsum(lengths), positions, side="right")).tolist()

    def _with_missing_bytes(self, joined, lengths):
        """The indices of pre-tokens that contain a byte without a token."""
        positions = np.flatnonzero(self._is_missing.take(joined))
        return np.unique(np.searchsorted(np.cumsum(lengths), positions, side="right")).tolist()


_ENCODERS: WeakSet[Encoder] = WeakSet()  # those that exist in this process


def _reset_all_after_fork():
    for encoder in list(_ENCODERS):
        encoder.reset_after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_reset_all_after_fork)


def _replace_ids(ids, counts, replacements):
    """Other ids for some pre-tokens: `replacements` is a dict from their indices to lists of ids."""
    ends, parts, begin = np.cumsum(counts), [], 0
    for index, new in sorted(replacements.items()):
        parts += [ids[begin : ends[index] - counts[index]], new]
        begin = ends[index]
    for index, new in replacements.items():
        counts[index] = len(new)
    return np.concatenate([*parts, ids[begin:]]).astype(np.int32, copy=False), counts

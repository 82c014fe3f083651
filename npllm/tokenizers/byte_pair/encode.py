"""Text to ids, one pre-token after another.

    text → pre-tokens → bytes → [merges by rank → ids]

Words repeat, so the ids of a short pre-token are cached. This is the whole algorithm of GPT-2's encoder;
`vectorized.encode` gives the same ids for all pre-tokens of a text at once.

OpenAI's encoder.py (GPT-2).
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from npllm.tokenizers.byte_pair.merge import merge_by_rank, merge_by_rank_heap
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, pretokenize

HEAP_MIN_BYTES = 100  # bytes of a pre-token from which the heap is faster; such pre-tokens rarely repeat: not cached
MAX_CACHED = 1 << 17  # pre-tokens in the cache, some 30 MB; when it is full, it is emptied


class PlainEncoder:
    """Encodes text with a regular expression, a cache, and merges by rank.

    ranks    dict from tokens (bytes) to ids
    pattern  regular expression that splits the text into pre-tokens
    """

    def __init__(self, ranks: dict[bytes, int], pattern: str = GPT2_PATTERN):
        self.ranks, self.pattern = ranks, pattern
        self._cache = _PretokenCache(self.encode_pretoken)

    def encode(self, text: str) -> list[int]:
        """The ids of a text without special tokens."""
        return list(chain.from_iterable(map(self._cache.__getitem__, pretokenize(text, self.pattern))))

    def encode_pretoken(self, pretoken: bytes) -> list[int]:
        """The ids of one pre-token. A pre-token that is in the vocabulary is one token, whatever the merges give."""
        if pretoken in self.ranks:
            return [self.ranks[pretoken]]
        merge = merge_by_rank if len(pretoken) < HEAP_MIN_BYTES else merge_by_rank_heap
        return [self.ranks[token] for token in merge(pretoken, self.ranks)]

    def encode_blocks(self, text: str) -> Iterable[list[int]]:
        """The ids of a text as a single block; the counterpart of the vectorized encoder's method."""
        return (self.encode(text),)

    def encode_batch(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """The ids of each text."""
        return map(self.encode, texts)

    def clear_cache(self) -> None:
        """Empty the cache."""
        self._cache.clear()


class _PretokenCache(dict):
    """A dict from pre-tokens (str) to ids that computes missing entries with `encode_pretoken`."""

    def __init__(self, encode_pretoken):
        self.encode_pretoken = encode_pretoken

    def __missing__(self, pretoken):
        data = pretoken.encode("utf-8", errors="surrogateescape")
        ids = self.encode_pretoken(data)
        if len(data) < HEAP_MIN_BYTES:
            if len(self) >= MAX_CACHED:
                self.clear()
            self[pretoken] = ids
        return ids

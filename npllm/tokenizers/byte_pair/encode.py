"""Text to ids, one pre-token after another.

    text → pre-tokens → bytes → [merges by rank → ids]

Words repeat, so the ids of a short pre-token are cached. This is the whole algorithm of GPT-2's encoder;
`vectorized.encode` gives the same ids for all pre-tokens of a text at once.

OpenAI's encoder.py (GPT-2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate, chain, groupby

from npllm.tokenizers.byte_pair.bytes_to_unicode import unicode_to_token
from npllm.tokenizers.byte_pair.merge import merge_by_rank, merge_by_rank_heap
from npllm.tokenizers.byte_pair.pre_tokenizers import ByteAlphabet, Step
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, pretokenize

HEAP_MIN_BYTES = 100  # bytes of a pre-token from which the heap is faster; such pre-tokens rarely repeat: not cached
MAX_CACHED = 1 << 17  # pre-tokens in the cache, some 30 MB; when it is full, it is emptied


class PlainEncoder:
    """Encodes text with a regular expression, a cache, and merges by rank.

    ranks    dict from tokens (bytes) to ids: the single bytes and the results of merges
    pattern  regular expression, or steps of `pre_tokenizers`, that divide the text into pre-tokens
    whole    dict from tokens to ids: a pre-token in it is this token, whatever the merges give; None for `ranks`
    unknown  the id of a byte without a token in `ranks`; if it is None, such bytes are left out before the merges
    fuse     whether adjacent unknown bytes have one id together
    """

    def __init__(
        self,
        ranks: dict[bytes, int],
        pattern: str | tuple[Step, ...] = GPT2_PATTERN,
        whole: dict[bytes, int] | None = None,
        unknown: int | None = None,
        fuse: bool = False,
    ):
        self.ranks, self.pattern, self.whole = ranks, pattern, ranks if whole is None else whole
        self.unknown, self.fuse = unknown, fuse
        self.missing = missing_bytes(ranks)
        in_alphabet = not isinstance(pattern, str) and ByteAlphabet() in pattern
        self._cache = _PretokenCache(self.encode_pretoken, unicode_to_token if in_alphabet else _to_utf8)

    def encode(self, text: str) -> list[int]:
        """The ids of a text without special tokens."""
        return list(chain.from_iterable(map(self._cache.__getitem__, pretokenize(text, self.pattern))))

    def encode_pretoken(self, pretoken: bytes) -> list[int]:
        """The ids of one pre-token. A pre-token in `whole` is one token, whatever the merges give."""
        if pretoken in self.whole:
            return [self.whole[pretoken]]
        if self.missing and len(pretoken.translate(None, self.missing)) < len(pretoken):
            return [token_id for token_id, _ in self.encode_pretoken_with_bytes(pretoken)]
        return [self.ranks[token] for token in self._merge(pretoken)]

    def encode_pretoken_with_bytes(self, pretoken: bytes) -> list[tuple[int, list[int]]]:
        """The ids of one pre-token, each with the indices of its bytes in the pre-token."""
        if pretoken in self.whole:
            return [(self.whole[pretoken], list(range(len(pretoken))))]
        is_missing = [byte in self.missing for byte in pretoken]
        if self.unknown is None:
            kept = [index for index, missing in enumerate(is_missing) if not missing]
            return self._with_indices(bytes(pretoken[index] for index in kept), kept)
        encoded = []
        for missing, run in groupby(range(len(pretoken)), is_missing.__getitem__):
            indices = list(run)
            if missing:
                encoded += [(self.unknown, run) for run in ([indices] if self.fuse else [[i] for i in indices])]
            else:
                encoded += self._with_indices(pretoken[indices[0] : indices[-1] + 1], indices)
        return encoded

    def _with_indices(self, data, indices):
        """The ids of bytes without a missing one, with the indices of the bytes of each."""
        tokens = self._merge(data)
        ends = list(accumulate(map(len, tokens)))
        return [(self.ranks[token], indices[end - len(token) : end]) for token, end in zip(tokens, ends)]

    def _merge(self, data):
        return (merge_by_rank if len(data) < HEAP_MIN_BYTES else merge_by_rank_heap)(data, self.ranks)

    def encode_blocks(self, text: str) -> Iterable[list[int]]:
        """The ids of a text as a single block; the counterpart of the vectorized encoder's method."""
        return (self.encode(text),)

    def encode_batch(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """The ids of each text."""
        return map(self.encode, texts)

    def clear_cache(self) -> None:
        """Empty the cache."""
        self._cache.clear()


def missing_bytes(ranks: dict[bytes, int]) -> bytes:
    """The bytes without a token in a vocabulary."""
    return bytes(byte for byte in range(256) if bytes([byte]) not in ranks)


def _to_utf8(pretoken):
    return pretoken.encode("utf-8", errors="surrogateescape")


class _PretokenCache(dict):
    """A dict from pre-tokens (str) to ids that computes missing entries with `encode_pretoken`."""

    def __init__(self, encode_pretoken, to_bytes):
        self.encode_pretoken, self.to_bytes = encode_pretoken, to_bytes

    def __missing__(self, pretoken):
        data = self.to_bytes(pretoken)
        ids = self.encode_pretoken(data)
        if len(data) < HEAP_MIN_BYTES:
            if len(self) >= MAX_CACHED:
                self.clear()
            self[pretoken] = ids
        return ids

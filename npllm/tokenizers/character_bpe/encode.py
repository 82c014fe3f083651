"""A normalized text to ids: segments, merges, and bytes for characters that the vocabulary lacks.

    normalized text → [segments → characters → merges by rank → ids]

A character without a token becomes its UTF-8 bytes, each a token such as <0xE4> (`byte_fallback`). Without byte tokens
it becomes the token for unknown text, or is left out if there is no such token, either.
"""

from collections.abc import Iterator, Mapping
from itertools import chain

from npllm.tokenizers.character_bpe.merge import MergeRanks, merge_characters
from npllm.tokenizers.character_bpe.segments import MIN_CHARS, Segmenter

MAX_CACHED = 1 << 17  # segments in the cache; when it is full, it is emptied
MAX_CACHED_CHARS = 60  # characters of a segment that is cached; longer ones rarely repeat

Span = tuple[int, int, int]  # an id, its first character in the normalized text, and the one after its last


class CharacterEncoder:
    """Encodes normalized text.

    tokens    dict from tokens (str) to ids
    ranks     dict from pairs of tokens to ranks; the pair of lowest rank is merged first
    byte_ids  dict from bytes (0 … 255) to the ids of byte tokens; empty without byte_fallback
    unk_id    id for characters without a token and without byte tokens; None: they are left out
    fuse_unk  True if a run of such characters is one token
    """

    def __init__(
        self,
        tokens: Mapping[str, int],
        ranks: MergeRanks,
        byte_ids: Mapping[int, int] | None = None,
        unk_id: int | None = None,
        fuse_unk: bool = False,
    ):
        self.tokens, self.ranks, self.byte_ids = tokens, ranks, byte_ids or {}
        self.unk_id, self.fuse_unk = unk_id, fuse_unk
        has_all_bytes = len(self.byte_ids) == 256
        self._drops = unk_id is None and not has_all_bytes
        self.segmenter = Segmenter(ranks, tokens, joins_unknown=not has_all_bytes)
        self._cache = _SegmentCache(self._encode_segment)

    def encode(self, text: str) -> list[int]:
        """The ids of a normalized text."""
        if self._drops:
            text = "".join(filter(self._is_encodable, text))
        ids: list[int] = []
        cache = self._cache
        for segment in self.segmenter.split(text):
            ids += cache[segment]
        return ids

    def encode_parts(self, parts: list[str | int]) -> list[int]:
        """The ids of normalized texts, with ids of added tokens between them; many short texts are divided at once."""
        if self._drops or len(parts) < 3 or sum(len(part) for part in parts if isinstance(part, str)) < MIN_CHARS:
            encoded = [self.encode(part) if isinstance(part, str) else [part] for part in parts]
            return encoded[0] if len(encoded) == 1 else list(chain.from_iterable(encoded))
        parts = [part for part in parts if part != ""]
        segments, firsts = self.segmenter.split_texts([part if isinstance(part, str) else "\0" for part in parts])
        encoded = [self._cache[segment] for segment in segments]
        for part, index in zip(parts, firsts):
            if not isinstance(part, str):
                encoded[index] = [part]
        return list(chain.from_iterable(encoded))

    def encode_with_spans(self, text: str) -> list[Span]:
        """The ids of a normalized text, each with its first character and the one after its last.

        Each byte token has the character that it is a part of. Characters that are left out belong to no token, unless
        the characters on both sides are merged.
        """
        positions = range(len(text))
        if self._drops:
            positions = [i for i, character in enumerate(text) if self._is_encodable(character)]
            text = "".join(text[i] for i in positions)
        spans, start, memo = [], 0, {}
        for segment in self.segmenter.split(text):
            if segment not in memo:
                memo[segment] = list(self._encode_segment(segment))
            spans += [
                (token_id, positions[start + first], positions[start + end - 1] + 1)
                for token_id, first, end in memo[segment]
            ]
            start += len(segment)
        return spans

    def clear_cache(self) -> None:
        """Drop all cached segments. This frees memory and changes no ids."""
        self._cache.clear()

    def _encode_segment(self, segment) -> Iterator[Span]:
        """The ids of a segment. A run of unknown characters is returned when a known token, or the end, follows."""
        unknown: Span | None = None
        start = 0
        for token in merge_characters(segment, self.ranks):
            end = start + len(token)
            token_id = self.tokens.get(token)
            if token_id is not None:
                if unknown:
                    yield unknown
                    unknown = None
                yield token_id, start, end
            elif (ids := self._fallback(token)) is not None:
                yield from ((byte_id, start, end) for byte_id in ids)
            else:
                if unknown and not self.fuse_unk:
                    yield unknown
                    unknown = None
                unknown = (self.unk_id, unknown[1] if unknown else start, end)
            start = end
        if unknown:
            yield unknown

    def _fallback(self, character):
        """The ids of the UTF-8 bytes of a character, None if one of them has no token."""
        ids = [self.byte_ids.get(byte) for byte in character.encode()]
        return None if None in ids else ids

    def _is_encodable(self, character):
        return character in self.tokens or self._fallback(character) is not None


class _SegmentCache(dict):
    """A dict from segments to ids that computes missing entries with `encode_segment`."""

    def __init__(self, encode_segment):
        self.encode_segment = encode_segment

    def __missing__(self, segment):
        ids = [token_id for token_id, _, _ in self.encode_segment(segment)]
        if len(segment) <= MAX_CACHED_CHARS:
            if len(self) >= MAX_CACHED:
                self.clear()
            self[segment] = ids
        return ids

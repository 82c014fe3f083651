"""Byte pair encoding: encode any text to ids, and decode ids without losing a byte.

    text → [added tokens → normalized text → pre-tokens → bytes → merges by rank] → ids

Special tokens and other added tokens split the text first (`byte_pair.added_tokens`). The text between them is
normalized if the vocabulary requires it (`byte_pair.normalizers`) and split into pre-tokens by the pattern
(`byte_pair.pretokenize`), and each pre-token is merged by itself (`byte_pair.merge`). `BPETokenizer` is the interface.
The work is done by two encoders that give the same ids, one for short texts and one for long texts (`dispatch`).

Sennrich, Haddow, Birch 2016, section 3.2; special tokens as in tiktoken.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import numpy as np

from npllm.core.checks import check_text
from npllm.tokenizers.base import Tokenizer
from npllm.tokenizers.byte_pair.added_tokens import AddedToken, AddedTokens
from npllm.tokenizers.byte_pair.encode import PlainEncoder
from npllm.tokenizers.byte_pair.merge import recover_merges
from npllm.tokenizers.byte_pair.normalizers import Normalizer, as_normalizers
from npllm.tokenizers.byte_pair.pre_tokenizers import PrefixSpace, Step, as_pattern, with_prefix_space
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, PATTERNS
from npllm.tokenizers.byte_pair.special_tokens import SpecialTokenSet, resolve_special
from npllm.tokenizers.byte_pair.surrogates import is_encodable, replace_surrogates
from npllm.tokenizers.counting import count_tokens, truncate
from npllm.tokenizers.dispatch import AdaptiveDecoder, AdaptiveEncoder
from npllm.tokenizers.formats import vocabulary_files
from npllm.tokenizers.formats.reading import reading_vocabulary
from npllm.tokenizers.offsets import encode_aligned, original_positions, trim_spaces
from npllm.tokenizers.vocabulary import check_vocabulary, reachable_tokens


class BPETokenizer(Tokenizer):
    """Byte pair encoding of any text.

    ranks           dict from tokens (byte strings, the single bytes among them) to ids; lower ids merge first
    pattern         regular expression that splits the text into pre-tokens (see `byte_pair.pretokenize`), or a tuple of
                    steps (see `byte_pair.pre_tokenizers`)
    special_tokens  dict from special tokens (str) to ids outside of `ranks`; they are never split or merged
    merges          the pairs (left, right) behind the tokens in the order of their ranks, if they are known; otherwise
                    they are recovered from the ranks when they are needed
    normalizer      "NFC", "NFD", "NFKC" or "NFKD", or steps (see `byte_pair.normalizers`), applied to the text between
                    added tokens; None for none
    added_tokens    further tokens outside of `ranks`, with options (see `byte_pair.added_tokens`)
    ignore_merges   whether a pre-token that is in `ranks` is one token even if the merges do not produce it
    unmerged        tokens in `ranks` that no merge produces; None if the ranks decide
    allow_missing_bytes  whether `ranks` may lack single bytes; a text is encoded without them, or with unknown_token
    unknown_token   the token for bytes that `ranks` lacks; if it is None, such bytes are left out
    fuse_unknown    whether adjacent unknown bytes are one token together
    prefix_ids      ids that `add_special_tokens=True` puts before a text; suffix_ids after it
    trim_offsets    "spaces": offsets leave out the spaces at the ends of a token; "spaces but the prefix": all but one
                    space of the first token; None: they leave out nothing

    Raises ValueError for a missing byte, ids that are not unique or negative, empty tokens, and an invalid pattern or
    normalizer.
    """

    def __init__(
        self,
        ranks: Mapping[bytes, int],
        pattern: str | Sequence[Step] = GPT2_PATTERN,
        special_tokens: Mapping[str, int] | None = None,
        *,
        merges: Sequence[tuple[bytes, bytes]] | None = None,
        normalizer: str | Normalizer | Iterable[Normalizer] | None = None,
        added_tokens: Iterable[AddedToken] = (),
        ignore_merges: bool = True,
        unmerged: Collection[bytes] | None = None,
        unknown_token: str | None = None,
        fuse_unknown: bool = False,
        allow_missing_bytes: bool = False,
        prefix_ids: Sequence[int] = (),
        suffix_ids: Sequence[int] = (),
        trim_offsets: Literal["spaces", "spaces but the prefix"] | None = None,
    ):
        ranks = dict(ranks)
        tokens = [*(AddedToken(text, token_id) for text, token_id in (special_tokens or {}).items()), *added_tokens]
        check_vocabulary(ranks, tokens, unknown_token, allow_missing_bytes)
        self.ranks, self.pattern, self.normalizers = ranks, as_pattern(pattern), as_normalizers(normalizer)
        self.special_tokens = {token.text: token.id for token in tokens}
        self.ignore_merges, self.trim_offsets, self._merges = ignore_merges, trim_offsets, merges
        self.unknown_token, self.fuse_unknown = unknown_token, fuse_unknown
        self.prefix_ids, self.suffix_ids = tuple(prefix_ids), tuple(suffix_ids)
        self._added = AddedTokens(tokens, self.normalizers)
        token_bytes = {rank: token for token, rank in ranks.items()} | {token.id: token.to_bytes() for token in tokens}
        self.vocab_size = max(token_bytes) + 1  # the highest id plus one: the number of rows that an embedding needs
        self._all_special, self._decoder = frozenset(self.special_tokens), AdaptiveDecoder(token_bytes)
        merged, whole = reachable_tokens(ranks, ignore_merges, unmerged)
        unknown = None if unknown_token is None else self.special_tokens.get(unknown_token)
        unknown = ranks.get((unknown_token or "").encode()) if unknown is None else unknown
        self._prefix_space = self.pattern[:1] == (PrefixSpace(),)  # applies to whole texts, as a normalizer does
        steps = as_pattern(self.pattern[1:]) if self._prefix_space else self.pattern
        self._encoder = AdaptiveEncoder(PlainEncoder(merged, steps, whole, unknown, fuse_unknown), merges)

    @property
    def added_tokens(self) -> list[AddedToken]:
        """All special tokens and other added tokens, with their options."""
        return list(self._added.tokens.values())

    @property
    def merged_ranks(self) -> dict[bytes, int]:
        """The tokens of `ranks` that merges can produce, and the single bytes."""
        return self._encoder.plain.ranks

    @property
    def needs_whole_text(self) -> bool:
        """Whether the ids of a text can depend on what is far from it, so that no text may be encoded in parts."""
        return self._prefix_space or self._added.need_context

    def token_ids(self) -> Collection[int]:
        """The ids that have a token; some below `vocab_size` may be unused."""
        return self._decoder.ids

    def __len__(self):
        """The number of tokens, special tokens included; smaller than `vocab_size` if there are unused ids."""
        return len(self.ranks) + len(self.special_tokens)

    def _details(self):
        names: dict[object, str] = {pattern: name for name, pattern in PATTERNS.items()}
        details = {"pattern": names.get(self.pattern, self.pattern), "special_tokens": len(self.special_tokens)}
        return details | ({"normalizer": self.normalizers} if self.normalizers else {})

    def encode(
        self,
        text: str,
        *,
        allowed_special: SpecialTokenSet = frozenset(),
        disallowed_special: SpecialTokenSet = "all",
        add_special_tokens: bool = False,
    ) -> list[int]:
        """The ids of a text.

        allowed_special     special tokens that are encoded as their own id, or "all"
        disallowed_special  special tokens that raise ValueError if the text contains them, or "all": those that are not
                            allowed
        add_special_tokens  whether `prefix_ids` and `suffix_ids` are put around the ids

        All other special tokens are encoded as ordinary text. The meaning is tiktoken's. The default refuses, so that
        text from an untrusted source cannot insert control tokens unnoticed. Added tokens that are not special, such as
        runs of spaces, are always encoded as their ids. If several tokens begin at the same position, the longest one
        is taken (in tiktoken, the order of a hash table decides). Raises TypeError if text is not a str.
        """
        return _concatenate(self._encode_parts(text, allowed_special, disallowed_special, add_special_tokens))

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of a text in which special tokens are ordinary text."""
        check_text("text", text)
        return _concatenate(self._encode_allowed(replace_surrogates(text), self._added.always))

    def encode_to_numpy(
        self,
        text: str,
        *,
        allowed_special: SpecialTokenSet = frozenset(),
        disallowed_special: SpecialTokenSet = "all",
        add_special_tokens: bool = False,
    ) -> np.ndarray:
        """The ids of `encode` as an array (n,) of int32, or of int64 if the vocabulary has ids above 2**31 − 1.

        For long texts this is faster than `encode`: no list of Python integers is made.
        """
        options = {"allowed_special": allowed_special, "disallowed_special": disallowed_special}
        return np.concatenate([*self.encode_blocks(text, **options, add_special_tokens=add_special_tokens)])

    def encode_blocks(
        self,
        text: str,
        *,
        allowed_special: SpecialTokenSet = frozenset(),
        disallowed_special: SpecialTokenSet = "all",
        add_special_tokens: bool = False,
    ) -> Iterator[np.ndarray]:
        """Iterate over the ids of `encode` in blocks, arrays as of `encode_to_numpy`; each is computed when requested.

        Raises as `encode`, when the first block is requested.
        """
        dtype = np.int32 if self.vocab_size <= 1 << 31 else np.int64
        for ids in self._encode_parts(text, allowed_special, disallowed_special, add_special_tokens):
            yield np.asarray(ids, dtype)

    def encode_with_offsets(
        self,
        text: str,
        *,
        allowed_special: SpecialTokenSet = frozenset(),
        disallowed_special: SpecialTokenSet = "all",
        add_special_tokens: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ids of `encode_to_numpy`, (n,), and their offsets in the text, (n, 2) int64.

        The offsets of a token are its first character and the one after its last, so that text[first:last] contains it.
        They are positions in the text as it is given, also if it is normalized (see `offsets`). `prefix_ids` and
        `suffix_ids` have the offsets 0, 0. Raises as `encode`.
        """
        check_text("text", text)
        encodable = replace_surrogates(text)
        allowed = self._check_special(allowed_special, disallowed_special, [encodable])
        parts = self._added.split_aligned(encodable, allowed)
        ids, offsets = encode_aligned(parts, self._encoder, self._decoder, self._prefix_space)
        if self.trim_offsets is not None:
            tokens = (self.decode_bytes([token_id]) for token_id in ids.tolist())
            offsets = trim_spaces(offsets, tokens, keep_prefix=self.trim_offsets == "spaces but the prefix")
        if len(text) != len(encodable):
            offsets = original_positions(text, encodable)[offsets]
        if add_special_tokens:
            ids = np.concatenate([np.array(self.prefix_ids, int), ids, np.array(self.suffix_ids, int)])
            offsets = np.pad(offsets, ((len(self.prefix_ids), len(self.suffix_ids)), (0, 0)))
        return ids.astype(np.int32 if self.vocab_size <= 1 << 31 else np.int64), offsets

    def encode_batch(
        self,
        texts: Iterable[str],
        *,
        allowed_special: SpecialTokenSet = frozenset(),
        disallowed_special: SpecialTokenSet = "all",
        add_special_tokens: bool = False,
    ) -> list[list[int]]:
        """The ids of each text. Short texts are encoded together, which is faster. Raises as `encode`."""
        if isinstance(texts, str):
            raise TypeError("texts is a single str; it must be a list of texts")
        texts = list(texts)
        for text in texts:
            check_text("text", text)
        texts = [replace_surrogates(text) for text in texts]
        allowed = self._check_special(allowed_special, disallowed_special, texts)
        encoder = self._encoder.select(sum(map(len, texts)))
        parts = [self._split(text, allowed) for text in texts]
        encoded = iter(encoder.encode_batch(chain.from_iterable(ordinary for ordinary, _ in parts)))
        prefix, suffix = (self.prefix_ids, self.suffix_ids) if add_special_tokens else ((), ())
        batch = (_interleave(islice(encoded, len(added) + 1), added) for _, added in parts)
        return [_concatenate([prefix, *ids, suffix]) for ids in batch]

    def encode_bytes(self, data: bytes) -> list[int]:
        """The ids of any bytes. Valid UTF-8 is encoded as text; an invalid byte counts as punctuation.

        tiktoken, which has no public function for this, merges everything after the first such byte as one pre-token.
        Raises ValueError for a byte that has no token.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data is {type(data).__name__}; it must be bytes")
        if lost := set(data).intersection(self._encoder.plain.missing):
            raise ValueError(f"data has the byte {min(lost)}, which has no token in this vocabulary")
        text = bytes(data).decode("utf-8", errors="surrogateescape")
        if is_encodable(text):
            return self.encode_ordinary(text)
        ordinary, added = self._split(text, self._added.always)
        return _concatenate(_interleave(map(self._encoder.plain.encode, ordinary), added))

    def count(
        self,
        text: str,
        *,
        allowed_special: SpecialTokenSet = frozenset(),
        disallowed_special: SpecialTokenSet = "all",
        add_special_tokens: bool = False,
    ) -> int:
        """The number of ids that `encode` gives, counted block by block without keeping them."""
        options = {"allowed_special": allowed_special, "disallowed_special": disallowed_special}
        return count_tokens(self.encode_blocks(text, **options, add_special_tokens=add_special_tokens))

    def truncate(
        self,
        text: str,
        max_tokens: int,
        *,
        allowed_special: SpecialTokenSet = frozenset(),
        disallowed_special: SpecialTokenSet = "all",
        add_special_tokens: bool = False,
    ) -> str:
        """The longest beginning of a text, in whole characters, with at most `max_tokens` tokens (see `counting`).

        It is a beginning of the text as it is given, also if the text is normalized before it is encoded.
        """
        options = {"allowed_special": allowed_special, "disallowed_special": disallowed_special}
        return truncate(self, text, max_tokens, **options, add_special_tokens=add_special_tokens)

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """The text of the ids. Invalid UTF-8 becomes U+FFFD, or is treated as by bytes.decode with these `errors`.

        It is the text that was encoded, unless that is changed by a normalizer, by a pattern that leaves out text, by
        bytes without a token, or by added tokens that include whitespace.
        """
        return self.decode_bytes(ids).decode("utf-8", errors=errors)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the ids, any iterable of integers; raises KeyError for an id that is not in the vocabulary."""
        try:
            return self._decoder.decode(ids)
        except KeyError as error:
            raise KeyError(f"id {error.args[0]} is not in the vocabulary; ids are below {self.vocab_size}") from None

    def clear_cache(self) -> None:
        """Drop all cached pre-tokens. This frees memory and changes no ids."""
        self._encoder.clear_cache()

    def merges(self) -> list[tuple[bytes, bytes]]:
        """The merges behind the vocabulary, pairs (left, right) in the order of their ranks.

        Raises ValueError for a token that is not the union of two tokens of lower rank (`byte_pair.merge`).
        """
        return recover_merges(self.merged_ranks) if self._merges is None else list(self._merges)

    def save(self, path: str | Path) -> None:
        """Write the vocabulary to a file or folder; an interrupted save leaves what was there before.

        tokenizer.json  Hugging Face's format: everything that determines the ids
        name.json       npllm's own format: everything
        name.tiktoken   tiktoken's ranks: neither the pattern nor the special tokens
        a folder        OpenAI's encoder.json and vocab.bpe: ids, merges and special tokens, not the pattern

        OpenAI's encoder and transformers read such a folder with any ids. tiktoken assigns the ids itself, as GPT-2
        does, and so reads only vocabularies trained with tie_break="id" and no special token but <|endoftext|>. Raises
        ValueError, and writes nothing, if the format cannot reproduce the ids.
        """
        vocabulary_files.save(path, self)

    @classmethod
    def load(
        cls,
        path: str | Path,
        pattern: str | Sequence[Step] | None = None,
        special_tokens: Mapping[str, int] | None = None,
        normalizer: str | Normalizer | Iterable[Normalizer] | None = None,
    ) -> "BPETokenizer":
        """Read what `save` wrote, or the files of OpenAI, tiktoken and Hugging Face.

        `pattern`, a regular expression, a name in PATTERNS or steps, `special_tokens` and `normalizer` replace those of
        the file. A *.tiktoken file has no pattern: it is known for published files (`known_vocabularies`), otherwise it
        must be given. OpenAI's format is GPT-2's, and so is its pattern. A pattern of the file that may take
        exponential time is refused (`byte_pair.backtracking`). Raises FileNotFoundError, or FileError if the file is
        invalid.
        """
        if isinstance(pattern, str):
            pattern = PATTERNS.get(pattern, pattern)
        if pattern is not None:
            as_pattern(pattern)
        arguments = vocabulary_files.load(path, pattern)
        if special_tokens is not None:
            arguments |= {"special_tokens": special_tokens, "added_tokens": (), "prefix_ids": (), "suffix_ids": ()}
        if normalizer is not None:
            arguments |= {"normalizer": normalizer}
        with reading_vocabulary(path):
            return cls(**arguments)

    def _check_special(self, allowed_special, disallowed_special, texts):
        """The tokens to find, a frozenset; raises ValueError if one of the texts contains a disallowed one."""
        allowed, disallowed = resolve_special(self._all_special, allowed_special, disallowed_special)
        if self._added.always:
            disallowed = disallowed - self._added.always if disallowed_special == "all" else disallowed
            allowed |= self._added.always - disallowed
        self._added.check(disallowed, texts)
        return allowed

    def _split(self, text, allowed):
        """The ordinary texts between the added tokens, ready for the encoder, and the ids of these."""
        ordinary, added = self._added.split(text, allowed)
        return [with_prefix_space(part) for part in ordinary] if self._prefix_space else ordinary, added

    def _encode_parts(self, text, allowed_special, disallowed_special, add_special_tokens):
        """Iterate over the ids of a text: arrays from the vectorized encoder, otherwise lists."""
        check_text("text", text)
        text = replace_surrogates(text)
        parts = self._encode_allowed(text, self._check_special(allowed_special, disallowed_special, [text]))
        return chain([self.prefix_ids], parts, [self.suffix_ids]) if add_special_tokens else parts

    def _encode_allowed(self, text, allowed):
        """The same for a text without surrogates, in which the `allowed` tokens are found."""
        ordinary, added = self._split(text, allowed)
        if not added:
            return self._encoder.encode_blocks(ordinary[0])
        return _interleave(self._encoder.select(len(text)).encode_batch(ordinary), added)


def _interleave(encoded, added):
    """Iterate over the ids of ordinary texts, with the id of an added token after each but the last."""
    for ids, token_id in zip(encoded, [*added, None]):
        yield ids
        if token_id is not None:
            yield [token_id]


def _concatenate(parts):
    """Arrays and lists of ids as one list."""
    ids = []
    for part in parts:
        ids += part.tolist() if isinstance(part, np.ndarray) else part
    return ids

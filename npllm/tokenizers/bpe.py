"""Byte pair encoding: encode any text to ids, and decode ids without losing a byte.

    text → [special tokens → pre-tokens → bytes → merges by rank] → ids

Special tokens split the text first (`byte_pair.special_tokens`), the pattern splits the text between them into
pre-tokens (`byte_pair.pretokenize`), and each pre-token is merged by itself (`byte_pair.merge`). `BPETokenizer` is the
interface. The work is done by two encoders that give the same ids, one for short texts and one for long texts
(`dispatch`).

Sennrich, Haddow, Birch 2016, section 3.2; special tokens as in tiktoken.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from npllm.core.checks import check_text
from npllm.tokenizers.base import Tokenizer
from npllm.tokenizers.byte_pair.merge import recover_merges
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, PATTERNS, compile_pattern
from npllm.tokenizers.byte_pair.special_tokens import (
    SpecialTokenSet,
    check_no_special,
    resolve_special,
    split_on_special,
)
from npllm.tokenizers.byte_pair.surrogates import is_encodable, replace_surrogates
from npllm.tokenizers.counting import count_tokens, truncate
from npllm.tokenizers.dispatch import AdaptiveDecoder, AdaptiveEncoder
from npllm.tokenizers.formats import vocabulary_files
from npllm.tokenizers.offsets import offsets_of

MAX_ID = (1 << 62) - 1


class BPETokenizer(Tokenizer):
    """Byte pair encoding of any text.

    ranks           dict from tokens (byte strings, all 256 single bytes among them) to ids; lower ids merge first
    pattern         regular expression that splits the text into pre-tokens; see `byte_pair.pretokenize`
    special_tokens  dict from special tokens (str) to ids outside of `ranks`; they are never split or merged
    merges          the pairs (left, right) behind the tokens in the order of their ranks, if they are known; otherwise
                    they are recovered from the ranks when they are needed

    Raises ValueError for a missing byte, ids that are not unique or negative, empty tokens, and an invalid pattern.
    """

    def __init__(
        self,
        ranks: Mapping[bytes, int],
        pattern: str = GPT2_PATTERN,
        special_tokens: Mapping[str, int] | None = None,
        *,
        merges: Sequence[tuple[bytes, bytes]] | None = None,
    ):
        ranks, special_tokens = dict(ranks), dict(special_tokens or {})
        _check_vocabulary(ranks, special_tokens)
        compile_pattern(pattern)
        self.ranks, self.pattern, self.special_tokens, self._merges = ranks, pattern, special_tokens, merges
        token_bytes = {rank: token for token, rank in ranks.items()}
        token_bytes |= {rank: token.encode() for token, rank in special_tokens.items()}
        self.vocab_size = max(token_bytes) + 1  # the highest id plus one: the number of rows that an embedding needs
        self._all_special = frozenset(special_tokens)
        self._encoder, self._decoder = AdaptiveEncoder(ranks, pattern, merges), AdaptiveDecoder(token_bytes)

    def __len__(self):
        """The number of tokens, special tokens included; smaller than `vocab_size` if there are unused ids."""
        return len(self.ranks) + len(self.special_tokens)

    def _details(self):
        names = {pattern: name for name, pattern in PATTERNS.items()}
        return {"pattern": names.get(self.pattern, self.pattern), "special_tokens": len(self.special_tokens)}

    def encode(
        self, text: str, *, allowed_special: SpecialTokenSet = frozenset(), disallowed_special: SpecialTokenSet = "all"
    ) -> list[int]:
        """The ids of a text.

        allowed_special     special tokens that are encoded as their own id, or "all"
        disallowed_special  special tokens that raise ValueError if the text contains them, or "all": those that are not
                            allowed

        All other special tokens are encoded as ordinary text. The meaning is tiktoken's. The default refuses, so that
        text from an untrusted source cannot insert control tokens unnoticed. If several allowed special tokens begin at
        the same position, the longest one is taken (in tiktoken, the order of a hash table decides). Raises TypeError
        if text is not a str.
        """
        return _concatenate(self._encode_parts(text, allowed_special, disallowed_special))

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of a text in which special tokens are ordinary text."""
        check_text("text", text)
        return _concatenate(self._encoder.encode_blocks(replace_surrogates(text)))

    def encode_to_numpy(
        self, text: str, *, allowed_special: SpecialTokenSet = frozenset(), disallowed_special: SpecialTokenSet = "all"
    ) -> np.ndarray:
        """The ids of `encode` as an array (n,) of int32, or of int64 if the vocabulary has ids above 2**31 − 1.

        For long texts this is faster than `encode`: no list of Python integers is made.
        """
        blocks = self.encode_blocks(text, allowed_special=allowed_special, disallowed_special=disallowed_special)
        return np.concatenate([*blocks])

    def encode_blocks(
        self, text: str, *, allowed_special: SpecialTokenSet = frozenset(), disallowed_special: SpecialTokenSet = "all"
    ) -> Iterator[np.ndarray]:
        """Iterate over the ids of `encode` in blocks, arrays as of `encode_to_numpy`; each is computed when requested.

        Raises as `encode`, when the first block is requested.
        """
        dtype = np.int32 if self.vocab_size <= 1 << 31 else np.int64
        for ids in self._encode_parts(text, allowed_special, disallowed_special):
            yield np.asarray(ids, dtype)

    def encode_with_offsets(
        self, text: str, *, allowed_special: SpecialTokenSet = frozenset(), disallowed_special: SpecialTokenSet = "all"
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ids of `encode_to_numpy`, (n,), and their offsets in the text, (n, 2) int64.

        The offsets of a token are its first character and the one after its last, so that text[first:last] contains it.
        Raises ValueError as `encode`, and if the pattern leaves out part of the text.
        """
        ids = self.encode_to_numpy(text, allowed_special=allowed_special, disallowed_special=disallowed_special)
        return ids, offsets_of(text, replace_surrogates(text), self._decoder.vectorized.lengths_of(ids))

    def encode_batch(
        self,
        texts: Iterable[str],
        *,
        allowed_special: SpecialTokenSet = frozenset(),
        disallowed_special: SpecialTokenSet = "all",
    ) -> list[list[int]]:
        """The ids of each text. Short texts are encoded together, which is faster. Raises as `encode`."""
        if isinstance(texts, str):
            raise TypeError("texts is a single str; it must be a list of texts")
        texts = list(texts)
        for text in texts:
            check_text("text", text)
        allowed, disallowed = resolve_special(self._all_special, allowed_special, disallowed_special)
        texts = [replace_surrogates(text) for text in texts]
        check_no_special(disallowed, texts)
        encoder = self._encoder.select(sum(map(len, texts)))
        if not allowed:
            return list(encoder.encode_batch(texts))
        parts = [split_on_special(allowed, text) for text in texts]
        encoded = iter(encoder.encode_batch(chain.from_iterable(ordinary for ordinary, _ in parts)))
        return [_concatenate(self._interleave(islice(encoded, len(special) + 1), special)) for _, special in parts]

    def encode_bytes(self, data: bytes) -> list[int]:
        """The ids of any bytes. Valid UTF-8 is encoded as text; an invalid byte counts as punctuation.

        tiktoken, which has no public function for this, merges everything after the first such byte as one pre-token.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data is {type(data).__name__}; it must be bytes")
        text = bytes(data).decode("utf-8", errors="surrogateescape")
        return self.encode_ordinary(text) if is_encodable(text) else self._encoder.plain.encode(text)

    def count(
        self, text: str, *, allowed_special: SpecialTokenSet = frozenset(), disallowed_special: SpecialTokenSet = "all"
    ) -> int:
        """The number of ids that `encode` gives, counted block by block without keeping them."""
        return count_tokens(
            self.encode_blocks(text, allowed_special=allowed_special, disallowed_special=disallowed_special)
        )

    def truncate(
        self,
        text: str,
        max_tokens: int,
        *,
        allowed_special: SpecialTokenSet = frozenset(),
        disallowed_special: SpecialTokenSet = "all",
    ) -> str:
        """The longest beginning of a text, in whole characters, with at most `max_tokens` tokens (see `counting`)."""
        return truncate(self, text, max_tokens, allowed_special=allowed_special, disallowed_special=disallowed_special)

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """The text of the ids. Invalid UTF-8 becomes U+FFFD, or is treated as by bytes.decode with these `errors`."""
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
        return recover_merges(self.ranks) if self._merges is None else list(self._merges)

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
        cls, path: str | Path, pattern: str | None = None, special_tokens: Mapping[str, int] | None = None
    ) -> "BPETokenizer":
        """Read what `save` wrote, or the files of OpenAI, tiktoken and Hugging Face.

        `pattern`, a regular expression or a name in PATTERNS, and `special_tokens` replace those of the file. A
        *.tiktoken file has no pattern: it is known for published files (`known_vocabularies`), otherwise it must be
        given. OpenAI's format is GPT-2's, and so is its pattern. Raises FileNotFoundError, or ValueError if the file is
        invalid.
        """
        arguments = vocabulary_files.load(path, PATTERNS.get(pattern, pattern) if pattern else None)
        if special_tokens is not None:
            arguments["special_tokens"] = special_tokens
        return cls(**arguments)

    def _encode_parts(self, text, allowed_special, disallowed_special):
        """Iterate over the ids of a text: arrays from the vectorized encoder, otherwise lists."""
        check_text("text", text)
        allowed, disallowed = resolve_special(self._all_special, allowed_special, disallowed_special)
        text = replace_surrogates(text)
        check_no_special(disallowed, [text])
        ordinary, special = split_on_special(allowed, text)
        if not special:
            return self._encoder.encode_blocks(text)
        return self._interleave(self._encoder.select(len(text)).encode_batch(ordinary), special)

    def _interleave(self, encoded, special):
        """Iterate over the ids of ordinary texts, with the id of a special token after each but the last."""
        for ids, token in zip(encoded, [*special, None]):
            yield ids
            if token is not None:
                yield [self.special_tokens[token]]


def _check_vocabulary(ranks, special_tokens):
    """Raise ValueError or TypeError unless every byte has a token, and every token an id of its own."""
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise ValueError(f"ranks has no token for byte {missing[0]}; every single byte must have one")
    ids = [*ranks.values(), *special_tokens.values()]
    if len(set(ids)) != len(ids):
        raise ValueError("ranks and special_tokens assign one id to several tokens; every token needs its own")
    if wrong := [i for i in ids if not isinstance(i, int) or not 0 <= i <= MAX_ID]:
        raise ValueError(f"ranks and special_tokens have the id {wrong[0]!r}; ids must be integers, 0 to 2**62 - 1")
    if wrong := [token for token in ranks if not isinstance(token, bytes)]:
        raise ValueError(f"ranks has the token {wrong[0]!r}; tokens must be byte strings")
    for token in special_tokens:
        check_text("a special token", token)
    if "" in special_tokens or b"" in ranks:
        raise ValueError("ranks or special_tokens has the empty token, which matches everywhere")
    if wrong := [token for token in special_tokens if not is_encodable(token)]:
        raise ValueError(f"special_tokens has {wrong[0]!r}; it must be a text without lone surrogates")


def _concatenate(parts):
    """Arrays and lists of ids as one list."""
    ids = []
    for part in parts:
        ids += part.tolist() if isinstance(part, np.ndarray) else part
    return ids

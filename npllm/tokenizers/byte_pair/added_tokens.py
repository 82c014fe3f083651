"""Added tokens: texts with an id of their own, found in a text before it is divided into pre-tokens.

    [text → added tokens | normalized text between them] → pre-tokens → …

Tokens with `normalized=False` are found in the text as it is. The text between them is normalized, each part by itself,
and tokens with `normalized=True` are found in the result. Of the tokens that begin at one position, the longest is
taken. These are the two passes of Hugging Face's tokenizers.

A special token is found only where the caller allows it (see `special_tokens`). An added token that is not special is
ordinary text with a fixed id, such as a run of spaces: it is always found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from npllm.tokenizers.byte_pair.bytes_to_unicode import UNICODE_TO_BYTE, unicode_to_token
from npllm.tokenizers.byte_pair.normalizers import Normalizer, normalize, normalize_aligned
from npllm.tokenizers.byte_pair.pretokenize import compile_pattern
from npllm.tokenizers.byte_pair.special_tokens import check_no_special, disallowed_error, special_pattern

Part = tuple[str, Sequence[int]]  # ordinary text, and the positions that its characters come from
Found = tuple[int, int, int]  # the id of an added token, its first position and the one after its last


@dataclass(frozen=True)
class AddedToken:
    """A text with an id of its own.

    special      whether it is a control token, which is found only where the caller allows it
    normalized   whether it is found in the normalized text; its own text is normalized, too
    lstrip       whether it includes the whitespace before it
    rstrip       whether it includes the whitespace after it
    single_word  whether it is found only if no letter, digit, combining mark or underscore is next to it
    data         the bytes that its id decodes to; None for its text in UTF-8
    """

    text: str
    id: int
    special: bool = True
    normalized: bool = False
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    data: bytes | None = None

    def to_bytes(self) -> bytes:
        """The bytes that the id decodes to."""
        return self.text.encode() if self.data is None else self.data

    @property
    def has_options(self) -> bool:
        """Whether it includes whitespace, or depends on the characters next to it."""
        return self.lstrip or self.rstrip or self.single_word


def as_written_in_bytes(token: AddedToken) -> AddedToken:
    """The token as Hugging Face decodes it: a text in GPT-2's alphabet stands for bytes, "ø" for 0xF8."""
    in_alphabet = not token.text.isascii() and UNICODE_TO_BYTE.keys() >= set(token.text)
    return replace(token, data=unicode_to_token(token.text)) if in_alphabet else token


class AddedTokens:
    """The added tokens of one vocabulary, and the normalizers of the text between them."""

    def __init__(self, tokens: Iterable[AddedToken] = (), normalizers: tuple[Normalizer, ...] = ()):
        self.tokens = {token.text: token for token in tokens}
        self.normalizers = normalizers
        self.always = frozenset(token.text for token in self.tokens.values() if not token.special)
        self._late = {  # the text to find in the normalized text, for every token with `normalized`
            normalize(token.text, normalizers): token for token in self.tokens.values() if token.normalized
        }
        self._late.pop("", None)
        self._late_texts = frozenset(token.text for token in self._late.values())
        self._with_options = frozenset(text for text, token in self.tokens.items() if token.has_options)

    @property
    def need_context(self) -> bool:
        """Whether a token may depend on the text next to it, or may have several spellings in a text."""
        return bool(self._with_options or (self._late and self.normalizers))

    def check(self, disallowed: frozenset[str], texts: Collection[str]) -> None:
        """Raise ValueError if a text contains a token that is disallowed, where `split` would find it."""
        if not disallowed:
            return
        elsewhere = (self._late_texts | self._with_options) & disallowed
        check_no_special(disallowed - elsewhere, texts)
        for text in texts if elsewhere else ():
            early = {token: self.tokens[token] for token in elsewhere - self._late_texts}
            late = {key: token for key, token in self._late.items() if token.text in elsewhere}
            for found in (*_find(early, text), *_find(late, normalize(text, self.normalizers))):
                raise disallowed_error(found[0].text)

    def split(self, text: str, allowed: frozenset[str]) -> tuple[list[str], list[int]]:
        """The normalized ordinary texts between the tokens of `allowed`, and the ids of these: n + 1 texts, n ids."""
        if allowed and not self._with_options and allowed.isdisjoint(self._late_texts):
            pattern = special_pattern(allowed)
            ids = [self.tokens[token].id for token in pattern.findall(text)]
            return [normalize(part, self.normalizers) for part in pattern.split(text)], ids
        if not allowed:
            return [normalize(text, self.normalizers)], []
        ordinary, ids = [""], []
        for part in self.split_aligned(text, allowed):
            if len(part) == 2:
                ordinary[-1] = part[0]
            else:
                ids.append(part[0])
                ordinary.append("")
        return ordinary, ids

    def split_aligned(self, text: str, allowed: frozenset[str]) -> Iterator[Part | Found]:
        """Ordinary texts with the positions of their characters, and added tokens with their positions, in order."""
        early = {token: self.tokens[token] for token in allowed - self._late_texts if token in self.tokens}
        late = {key: token for key, token in self._late.items() if token.text in allowed}
        for token, first, end in _divide(early, text):
            if token is not None:
                yield token.id, first, end
                continue
            normalized, positions = normalize_aligned(text[first:end], self.normalizers)
            if isinstance(positions, range):  # nothing was changed
                positions = range(first, end)
            else:
                positions = [first + position for position in positions]
            for token, low, high in _divide(late, normalized):
                if token is None:
                    yield normalized[low:high], positions[low:high]
                else:
                    yield token.id, positions[low], positions[high - 1] + 1


def _divide(tokens, text):
    """Added tokens (token, first, end) and the ordinary texts between them (None, first, end), in order."""
    position = 0
    for token, first, end in _find(tokens, text):
        if first > position:
            yield None, position, first
        yield token, first, end
        position = end
    if position < len(text):
        yield None, position, len(text)


def _find(tokens, text):
    """The added tokens in a text, (token, first, end) in order; `tokens` is a dict from texts to AddedToken."""
    position, pattern = 0, special_pattern(frozenset(tokens))
    for match in pattern.finditer(text) if pattern else ():
        token, (first, end) = tokens[match.group()], match.span()
        if token.single_word and not _is_single_word(text, first, end):
            continue
        if token.lstrip:
            first = max(len(text[:first].rstrip(_whitespace())), position)
        if token.rstrip:
            end = len(text) - len(text[end:].lstrip(_whitespace()))
        yield token, first, end
        position = end


def _is_single_word(text, first, end):
    word = compile_pattern(r"\w")
    return not (word.match(text[max(0, first - 1) : first]) or word.match(text[end : end + 1]))


@lru_cache
def _whitespace():
    """All whitespace characters as one text."""
    space = compile_pattern(r"\s")
    return "".join(character for character in map(chr, range(0x3001)) if space.match(character))

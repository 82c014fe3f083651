"""SentencePiece's own normalizer: replace characters by rules, collapse spaces, write spaces as ▁.

    text → [rules → single spaces → ▁ at the beginning → ▁ for spaces] → characters → …

The rules, such as NFKC, are part of the model file (`precompiled_charsmap`). They map strings to strings; at each
position the longest string that matches is replaced, and the search goes on behind it. In the file they are a trie, in
an array of 32-bit units. A unit has

    bits 0-7    the byte that leads to it
    bit 8       1 if a string ends there
    bits 10-31  the offset of its children (times 256 if bit 9 is 1)

The child of the unit at index i for the byte c is at index i ^ offset ^ c, if the byte of the unit there is c. The
index i ^ offset itself, the child for byte 0, holds the result of a string that ends there: its position in the texts
behind the trie, each of which ends with a zero byte.

Kudo, Richardson 2018 (SentencePiece), section 3.2; darts-clone (Yata), the double array.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npllm.tokenizers.character_bpe.added_tokens import prefix_tree_pattern
from npllm.tokenizers.character_bpe.normalization import Aligned

SPACE_SYMBOL = "▁"
MAX_NODES = 1 << 20  # of a trie, where a shared end counts once for each beginning; NFKC has 60,000


@dataclass(frozen=True)
class SentencePieceNormalizer:
    """The normalizer of a SentencePiece model; a step of normalization.

    rules                     dict from strings to what replaces them; empty for "identity"
    add_dummy_prefix          True: a space before the text
    remove_extra_whitespaces  True: runs of spaces become one; none at the beginning and at the end
    escape_whitespaces        True: spaces are written as ▁
    protected                 user-defined symbols, to which no rule is applied
    """

    rules: Mapping[str, str] = field(default_factory=dict)
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True
    protected: tuple[str, ...] = ()
    _finder: re.Pattern | None = field(init=False, repr=False, compare=False, default=None)
    _longest: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self):
        finder = _candidates(self.rules, self.protected) if self.rules or self.protected else None
        object.__setattr__(self, "_finder", finder)
        object.__setattr__(self, "_longest", max(map(len, [*self.rules, *self.protected]), default=0))

    def apply(self, text: str, is_first: bool) -> str:
        """The normalized text."""
        if not text:
            return text
        if self.rules:
            text = "".join(new for _, new, _ in self._parts(text))
        if self.remove_extra_whitespaces:
            text = re.sub("  +", " ", text).lstrip(" ")
        if self.add_dummy_prefix:
            text = " " + text
        space = SPACE_SYMBOL if self.escape_whitespaces else " "
        text = text.replace(" ", space)
        return text.rstrip(space) if self.remove_extra_whitespaces else text

    def apply_aligned(self, aligned: Aligned, is_first: bool) -> Aligned:
        """The normalized text with positions: a character ends where the next one begins, as in SentencePiece."""
        text, starts, ends = aligned
        if not text:
            return aligned
        units = [*(self._replaced(text) if self._finder else enumerate(text))]
        characters = [(character, starts[i]) for i, new in units for character in new]
        end = ends[-1]
        if self.remove_extra_whitespaces:
            characters = [
                (character, start)
                for i, (character, start) in enumerate(characters)
                if character != " " or (i > 0 and characters[i - 1][0] != " ")
            ]
        if self.add_dummy_prefix:
            leading = (i for i, new in units if new != " " or not self.remove_extra_whitespaces)
            characters.insert(0, (" ", starts[next(leading, 0)]))
        space = SPACE_SYMBOL if self.escape_whitespaces else " "
        characters = [(space if character == " " else character, start) for character, start in characters]
        while self.remove_extra_whitespaces and characters and characters[-1][0] == space:
            end = characters.pop()[1]
        new_starts = [start for _, start in characters]
        return Aligned(
            "".join(character for character, _ in characters), new_starts, [*new_starts[1:], end][: len(new_starts)]
        )

    def _replaced(self, text) -> Iterator[tuple[int, str]]:
        """The text in units, each with its position: what replaces a string, protected symbols, single characters."""
        for first, new, is_unit in self._parts(text):
            if is_unit:
                yield first, new
            else:
                yield from enumerate(new, first)

    def _parts(self, text) -> Iterator[tuple[int, str, bool]]:
        """Units, and the text between them (False), with their positions."""
        position = 0
        while match := self._finder.search(text, position):
            first = match.start()
            if position < first:
                yield position, text[position:first], False
            ends = range(min(first + self._longest, len(text)), first, -1)
            if end := next((end for end in ends if text[first:end] in self.protected), 0):
                yield first, text[first:end], True
            elif end := next((end for end in ends if text[first:end] in self.rules), 0):
                yield first, self.rules[text[first:end]], True
            else:
                end = first + 1
                yield first, text[first], True
            position = end
        yield position, text[position:], False

    def to_tokenizer_json(self) -> dict[str, Any]:
        """This step in Hugging Face's tokenizer.json, if it only prepends and replaces spaces."""
        if self.rules or self.remove_extra_whitespaces or not self.escape_whitespaces:
            raise ValueError(
                "tokenizer.json has no step for this SentencePiece normalizer; npllm can write one without rules and "
                "without remove_extra_whitespaces"
            )
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE_SYMBOL}
        if not self.add_dummy_prefix:
            return replace
        return {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE_SYMBOL}, replace]}


def read_charsmap(data: bytes) -> dict[str, str]:
    """The rules in a `precompiled_charsmap`: strings and what replaces them. Raises ValueError if it is damaged."""
    if not data:
        return {}
    size = int.from_bytes(data[:4], "little")
    if len(data) < 4 or size % 4 or not 0 < size <= len(data) - 4:
        raise ValueError(f"precompiled_charsmap begins with the size {size}; it has {len(data)} bytes")
    units, texts = np.frombuffer(data, "<u4", size // 4, offset=4), data[4 + size :]
    try:
        return {old.decode(): _text_at(texts, value).decode() for old, value in _strings(units)}
    except (IndexError, UnicodeDecodeError):
        raise ValueError("precompiled_charsmap is damaged") from None


def _strings(units) -> Iterator[tuple[bytes, int]]:
    """The strings of a trie with their values."""
    is_child = (units >> 31) == 0
    indices = np.flatnonzero(is_child)
    children = defaultdict(list)  # by the index of the child for byte 0
    for index, byte in zip(indices.tolist(), (units[indices] & 0xFF).tolist()):
        if byte:
            children[index ^ byte].append((byte, index))
    units = units.tolist()
    pending, num_visited = [(_offset(units[0]), b"")], 0
    while pending:
        base, string = pending.pop()
        for byte, index in children.get(base, ()):
            num_visited += 1
            if num_visited > MAX_NODES:
                raise IndexError("the trie has a cycle")
            child, longer = index ^ _offset(units[index]), string + bytes([byte])
            if units[index] >> 8 & 1:
                yield longer, units[child] & 0x7FFFFFFF
            pending.append((child, longer))


def _offset(unit):
    return (unit >> 10) << ((unit & (1 << 9)) >> 6)


def _text_at(texts, position):
    """The text at a position, up to the zero byte."""
    return texts[position : texts.index(b"\0", position)] if position < len(texts) else _raise()


def _raise():
    raise IndexError("a value lies outside of the texts")


def _candidates(rules, protected):
    """A pattern for the positions where a rule, or a protected string, may match."""
    single = {old for old in rules if len(old) == 1}
    longer = [old for old in rules if len(old) > 1]
    patterns = [prefix_tree_pattern(protected)] if protected else []
    if single:
        patterns.append(_character_class(single))
    if longer:
        patterns.append(_character_class({old[0] for old in longer}) + _character_class({old[1] for old in longer}))
    return re.compile("|".join(patterns))


def _character_class(characters):
    """A class of characters, with ranges."""
    ranges: list[list[int]] = []
    for code in sorted(map(ord, characters)):
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(f"{re.escape(chr(low))}-{re.escape(chr(high))}" for low, high in ranges) + "]"

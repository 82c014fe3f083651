"""Normalize a text before it is merged, and keep the position that each character comes from.

    [text → normalized text] → characters → merges → ids

Character-level vocabularies write a space as ▁ (U+2581) and put one before the text, so that a word at the beginning
has the same token as elsewhere: "new world" → "▁new▁world". Each step below is a step of a `normalizer` or
`pre_tokenizer` of Hugging Face's tokenizer.json. SentencePiece's own normalizer is in `charsmap`.

Hugging Face, tokenizers: documentation of the normalizers and of Metaspace.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from npllm.tokenizers.byte_pair import normalizers
from npllm.tokenizers.byte_pair.normalizers import Normalizer


class Aligned(NamedTuple):
    """A text, and for each of its characters where the characters that it comes from begin and end."""

    text: str
    starts: list[int]
    ends: list[int]


class Step(Protocol):
    """A step of normalization. `is_first` is True if the text is the beginning of the whole text."""

    def apply(self, text: str, is_first: bool) -> str:
        """The normalized text."""

    def apply_aligned(self, aligned: Aligned, is_first: bool) -> Aligned:
        """The normalized text with positions."""


@dataclass(frozen=True)
class Replace:
    """Replace every occurrence of a text by another one."""

    old: str
    new: str

    def apply(self, text: str, is_first: bool) -> str:
        """The normalized text."""
        return text.replace(self.old, self.new)

    def apply_aligned(self, aligned: Aligned, is_first: bool) -> Aligned:
        """Every new character has the position of the last one that was replaced, as in Hugging Face's library."""
        text, starts, ends = aligned
        new_starts, new_ends, position = [], [], 0
        while (found := text.find(self.old, position)) >= 0:
            end = found + len(self.old)
            new_starts += [*starts[position:found], *[starts[end - 1]] * len(self.new)]
            new_ends += [*ends[position:found], *[ends[end - 1]] * len(self.new)]
            position = end
        return Aligned(self.apply(text, is_first), new_starts + starts[position:], new_ends + ends[position:])


@dataclass(frozen=True)
class Prepend:
    """Put a text before every text that is not empty.

    skip_if_present  True: not before a text that begins with it
    only_first       True: only at the beginning of the whole text
    """

    prefix: str
    skip_if_present: bool = False
    only_first: bool = False

    def apply(self, text: str, is_first: bool) -> str:
        """The normalized text."""
        if not text or (self.only_first and not is_first) or (self.skip_if_present and text.startswith(self.prefix)):
            return text
        return self.prefix + text

    def apply_aligned(self, aligned: Aligned, is_first: bool) -> Aligned:
        """The prefix has the position of the first character."""
        text = self.apply(aligned.text, is_first)
        added = len(text) - len(aligned.text)
        return Aligned(text, aligned.starts[:1] * added + aligned.starts, aligned.ends[:1] * added + aligned.ends)


@dataclass(frozen=True)
class Apply:
    """Apply a normalizer of `byte_pair.normalizers`, such as UnicodeForm("NFC")."""

    normalizer: Normalizer

    @property
    def is_replacement(self) -> bool:
        """True if it replaces matches of a pattern."""
        return isinstance(self.normalizer, normalizers.Replace)

    def apply(self, text: str, is_first: bool) -> str:
        """The normalized text."""
        return self.normalizer.normalize(text)

    def apply_aligned(self, aligned: Aligned, is_first: bool) -> Aligned:
        """Each character has the position of the one that it comes from, see the normalizer."""
        text, indices = self.normalizer.normalize_aligned(aligned.text, range(len(aligned.text)))
        return Aligned(text, [aligned.starts[i] for i in indices], [aligned.ends[i] for i in indices])


@dataclass(frozen=True)
class Metaspace:
    """Replace spaces by a symbol, and put one before the text: Prepend and Replace in one (Hugging Face's name)."""

    symbol: str = "▁"
    prepend_scheme: Literal["always", "first", "never"] = "always"

    def apply(self, text: str, is_first: bool) -> str:
        """The normalized text."""
        for step in self._steps():
            text = step.apply(text, is_first)
        return text

    def apply_aligned(self, aligned: Aligned, is_first: bool) -> Aligned:
        """The symbol before the text has the position of the first character."""
        for step in self._steps():
            aligned = step.apply_aligned(aligned, is_first)
        return aligned

    def _steps(self):
        yield Replace(" ", self.symbol)
        if self.prepend_scheme != "never":
            yield Prepend(self.symbol, skip_if_present=True, only_first=self.prepend_scheme == "first")


def normalize(text: str, steps: Iterable[Step], is_first: bool = True) -> str:
    """The text after all steps."""
    for step in steps:
        text = step.apply(text, is_first)
    return text


def normalize_aligned(aligned: Aligned, steps: Iterable[Step], is_first: bool = True) -> Aligned:
    """The text after all steps, with the positions that its characters come from."""
    for step in steps:
        aligned = step.apply_aligned(aligned, is_first)
    return aligned


def aligned(text: str, start: int = 0) -> Aligned:
    """A text as it is, whose first character has the position `start`."""
    return Aligned(text, [*range(start, start + len(text))], [*range(start + 1, start + len(text) + 1)])

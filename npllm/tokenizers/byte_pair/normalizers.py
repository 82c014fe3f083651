"""Steps that change a text before it is divided, as in the `normalizer` of Hugging Face's tokenizer.json.

    text → [normalized text] → pre-tokens → bytes → merges → ids

Unicode has several spellings of one character: "é" is U+00E9, or "e" and the combining mark U+0301. NFC composes, NFD
decomposes; NFKC and NFKD also replace compatibility characters such as "ﬁ". So the ids decode to the normalized text,
which need not be the text that was encoded.

Hugging Face's library normalizes by Unicode 9.0 and Python by a newer version. The difference are the code points of
`normalization_table`: by Unicode 9.0 they have no decomposition and no combining class, so nothing before such a
character can combine with anything after it. The text between them is normalized by Python.

Unicode Standard Annex 15, Unicode Normalization Forms.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from npllm.tokenizers.byte_pair.normalization_table import NEWER
from npllm.tokenizers.byte_pair.pretokenize import compile_pattern

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]
FORMS = ("NFC", "NFD", "NFKC", "NFKD")
Aligned = tuple[str, Sequence[int]]  # a text, and for each of its characters the position that it comes from


@dataclass(frozen=True)
class UnicodeForm:
    """Normalize by one of Unicode's four forms, in the version 9.0. Raises ValueError for another form."""

    form: Form

    def __post_init__(self):
        if self.form not in FORMS:
            raise ValueError(f"normalizer is {self.form!r}; it must be one of {', '.join(FORMS)}")

    def normalize(self, text: str) -> str:
        """The normalized text; the text itself if it is normalized already, as nearly all texts are."""
        if text.isascii() or unicodedata.is_normalized(self.form, text):
            return text
        newer = _newer().split(text)  # the text between newer characters, and these characters, alternately
        newer[::2] = [unicodedata.normalize(self.form, part) for part in newer[::2]]
        return "".join(newer)

    def normalize_aligned(self, text: str, positions: Sequence[int]) -> Aligned:
        """The normalized text and the positions of its characters.

        All characters of a decomposition have the position of the character that is decomposed. A character that is
        composed of several has the position of the first; the others have no character in the result. Marks that are
        reordered have the positions in the order of the result. These are the positions of Hugging Face's library.
        """
        if text.isascii() or unicodedata.is_normalized(self.form, text):
            return text, positions
        characters, found, position = [], [], 0
        for index, part in enumerate(_newer().split(text)):
            spellings = [(part, 0)] if index % 2 else _normalize_by_steps(part, self.form)
            for character, change in spellings:
                if index % 2 == 0 or part:
                    characters.append(character)
                    found.append(positions[position - 1] if change > 0 else positions[position])
                    position += 0 if change > 0 else 1 - change
        return "".join(characters), found


@dataclass(frozen=True)
class Prepend:
    """Put a text before every text that is not empty."""

    content: str

    def normalize(self, text: str) -> str:
        """The content and the text."""
        return self.content + text if text else text

    def normalize_aligned(self, text: str, positions: Sequence[int]) -> Aligned:
        """The content has the position of the first character."""
        return (self.content + text, [*positions[:1]] * len(self.content) + [*positions]) if text else (text, positions)


@dataclass(frozen=True)
class Replace:
    """Replace every match of a pattern (see `pretokenize`) by a text. Raises ValueError for an invalid pattern."""

    pattern: str
    content: str

    def __post_init__(self):
        if compile_pattern(self.pattern).match(""):
            raise ValueError(f"pattern is {self.pattern!r:.80}; it must not match the empty text")

    def normalize(self, text: str) -> str:
        """The text with every match replaced."""
        return compile_pattern(self.pattern).sub(lambda match: self.content, text)

    def normalize_aligned(self, text: str, positions: Sequence[int]) -> Aligned:
        """The new characters have the position of the last character of the match."""
        parts, found, end = [], [], 0
        for match in compile_pattern(self.pattern).finditer(text):
            parts += [text[end : match.start()], self.content]
            found += positions[end : match.start()]
            found += [positions[match.end() - 1]] * len(self.content)
            end = match.end()
        return "".join([*parts, text[end:]]), [*found, *positions[end:]]


Normalizer = UnicodeForm | Prepend | Replace


def as_normalizers(normalizer: None | str | Normalizer | Iterable[Normalizer]) -> tuple[Normalizer, ...]:
    """Normalizers in the order of their application: "NFC" is one, None is none. Raises ValueError or TypeError."""
    if normalizer is None:
        return ()
    if isinstance(normalizer, str):
        return (UnicodeForm(normalizer),)  # type: ignore[arg-type]  # __post_init__ checks it
    steps = (normalizer,) if isinstance(normalizer, Normalizer) else tuple(normalizer)
    if wrong := [step for step in steps if not isinstance(step, Normalizer)]:
        wanted = ", ".join(FORMS)
        raise TypeError(f"normalizer is {wrong[0]!r:.60}; it must be {wanted}, or UnicodeForm, Prepend or Replace")
    return steps


def normalize(text: str, normalizers: Iterable[Normalizer]) -> str:
    """The text after all normalizers."""
    for step in normalizers:
        text = step.normalize(text)
    return text


def normalize_aligned(text: str, normalizers: Iterable[Normalizer]) -> Aligned:
    """The text after all normalizers, and for each character the position in the given text that it comes from."""
    positions: Sequence[int] = range(len(text))
    for step in normalizers:
        text, positions = step.normalize_aligned(text, positions)
    return text, positions


def is_unchanged(text: str, normalizers: Iterable[Normalizer]) -> bool:
    """True if the normalizers change none of these characters, and no character before or after them changes them."""
    return all(
        isinstance(step, UnicodeForm)
        and unicodedata.combining(character) == 0
        and not _composes_backwards(character)
        and step.normalize(character) == character
        for step in normalizers
        for character in text
    )


@lru_cache
def _newer() -> re.Pattern:
    """A pattern with a group that matches one of the characters newer than Unicode 9.0."""
    ends = [entry.split("-") for entry in NEWER.split()]
    ranges = "".join(f"{re.escape(chr(int(pair[0], 16)))}-{re.escape(chr(int(pair[-1], 16)))}" for pair in ends)
    return re.compile(f"([{ranges}])")


def _composes_backwards(character):
    """True for a vowel or a final consonant of Hangul, and for a combining mark, which may compose without a class."""
    return "\u1161" <= character <= "\u11ff" or unicodedata.category(character).startswith("M")


def _normalize_by_steps(text, form):
    """The characters of the normalized text, each with how many characters it replaces.

    As in the library behind Hugging Face's normalizers: 0 for a character in place of one, n > 0 for an additional
    one, −n for one in place of n + 1.
    """
    decomposed = []  # combining class, character, change
    for character in text:
        parts = unicodedata.normalize("NFKD" if "K" in form else "NFD", character)
        decomposed += [(unicodedata.combining(part), part, min(index, 1)) for index, part in enumerate(parts)]
    start = 0
    for index in range(len(decomposed) + 1):  # between two characters without a class, marks are sorted by class
        if index == len(decomposed) or decomposed[index][0] == 0:
            decomposed[start:index] = sorted(decomposed[start:index], key=lambda entry: entry[0])
            start = index
    if form in ("NFD", "NFKD"):
        return [(character, change) for _, character, change in decomposed]
    return _compose(decomposed)


def _compose(decomposed):
    """Compose a decomposed text: characters with their changes."""
    composed: list[tuple[str, int]] = []
    starter, last_class = -1, -1  # the index of the last starter, and the class of the last mark after it
    for combining, character, change in decomposed:
        if starter >= 0 and last_class < combining:
            first, first_change = composed[starter]
            union = unicodedata.normalize("NFC", first + character)
            if len(union) == 1:
                composed[starter] = (union, first_change + change - 1)
                continue
        if combining == 0:
            starter, last_class = len(composed), -1
        else:
            last_class = combining
        composed.append((character, change))
    return composed

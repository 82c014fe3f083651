"""Steps that divide a text into pre-tokens one after another, as in a `pre_tokenizer` of Hugging Face's tokenizer.json.

    [text → first step → pre-tokens → second step → pre-tokens → …] → bytes → merges → ids

A step is applied to every pre-token of the step before, as to a text of its own: lookahead and $ end where the
pre-token ends. So two splits are not one split with an alternation. "a   5" divided by \\p{N} first is "a", "   ", "5";
the single pattern of GPT-2 gives "a", "  ", " 5".

Steps are compared by value, and so are tuples of steps. A single pattern, given as a str, is the same as the tuple
(Split(pattern, "removed", invert=True),).

Hugging Face, tokenizers: documentation of the pre-tokenizers.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from npllm.tokenizers.byte_pair.bytes_to_unicode import BYTE_TO_UNICODE
from npllm.tokenizers.byte_pair.pretokenize import PATTERNS, compile_pattern, range_end

Behavior = Literal["isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous"]
BEHAVIORS = ("isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous")
Aligned = tuple[str, Sequence[int]]  # a pre-token, and for each of its characters the position that it comes from

# Rust's char::is_numeric, with which Hugging Face's Digits splits: 13 characters more than \\p{N}.
NUMERIC = r"[\p{N}\U00011de0-\U00011de9\U00016ff4-\U00016ff6]"
PUNCTUATION = r"\p{P8}"  # with which Hugging Face's Punctuation splits
WORDS = r"\w+|[^\w\s]+"  # Hugging Face's Whitespace


@dataclass(frozen=True)
class Split:
    """Divide a text at the matches of a pattern.

    pattern   regular expression, see `pretokenize`; it must not match the empty text
    behavior  "isolated": each match is a pre-token, and so is the text between two matches; "contiguous": the same, but
              adjacent matches are one pre-token; "removed": the text between matches; "merged_with_previous" and
              "merged_with_next": a match belongs to the text before or after it
    invert    exchange the matches and the text between them

    Raises ValueError for an invalid pattern or behavior.
    """

    pattern: str
    behavior: Behavior = "isolated"
    invert: bool = False
    highest: ClassVar[int] = 0  # the highest code point that a step adds to a text

    def __post_init__(self):
        if self.behavior not in BEHAVIORS:
            raise ValueError(f"behavior is {self.behavior!r}; it must be one of {', '.join(BEHAVIORS)}")
        if compile_pattern(self.pattern).match(""):
            raise ValueError(f"pattern is {self.pattern!r:.80}; it must not match the empty text")

    def split(self, text: str, highest: int = 0x10FFFF) -> list[str]:
        """The pre-tokens of a text without characters above the code point `highest`."""
        compiled = compile_pattern(self.pattern, highest)
        if compiled.groups == 0:
            if self.behavior == "removed" and self.invert:
                return compiled.findall(text)
            if self.behavior == "removed":
                return list(filter(None, compiled.split(text)))
            if self.behavior == "isolated":  # with a group around the pattern, re.split keeps the matches
                return list(filter(None, compile_pattern(f"({self.pattern})", highest).split(text)))
        return [text[first:end] for first, end in self._spans(text, compiled)]

    def split_aligned(self, text: str, positions: Sequence[int]) -> list[Aligned]:
        """The pre-tokens of a text with the positions of their characters."""
        spans = self._spans(text, compile_pattern(self.pattern, range_end(text)))
        return [(text[first:end], positions[first:end]) for first, end in spans]

    def _spans(self, text, compiled):
        """The first character of each pre-token and the one after its last."""
        parts = [(first, end, is_match != self.invert) for first, end, is_match in _matches(text, compiled)]
        if self.behavior == "isolated":
            return [(first, end) for first, end, _ in parts]
        if self.behavior == "removed":
            return [(first, end) for first, end, is_match in parts if not is_match]
        if self.behavior == "merged_with_next":
            return [(first, end) for first, end in _merge_matches(parts[::-1])][::-1]
        if self.behavior == "merged_with_previous":
            return _merge_matches(parts)
        spans, previous = [], None
        for first, end, is_match in parts:
            if is_match == previous:
                first = spans.pop()[0]
            spans.append((first, end))
            previous = is_match
        return spans


@dataclass(frozen=True)
class PrefixSpace:
    """Put a space before every pre-token that does not begin with one (`add_prefix_space` of ByteLevel)."""

    highest: ClassVar[int] = ord(" ")

    def split(self, text: str, highest: int = 0x10FFFF) -> list[str]:
        """The text with a space before it."""
        return [text if text.startswith(" ") else f" {text}"]

    def split_aligned(self, text: str, positions: Sequence[int]) -> list[Aligned]:
        """The space has the position of the first character."""
        return [(text, positions) if text.startswith(" ") else (f" {text}", [*positions[:1], *positions])]


@dataclass(frozen=True)
class ByteAlphabet:
    """Write the bytes of every pre-token in GPT-2's alphabet: " é" → "ĠÃ©".

    Steps after this one divide the characters of the alphabet, and may divide a character of the text. Where it is
    the last step, as in nearly all vocabularies, it is left out: a tokenizer's pre-tokens become bytes in any case.
    """

    highest: ClassVar[int] = 0xFFFF

    def split(self, text: str, highest: int = 0x10FFFF) -> list[str]:
        """The text in GPT-2's alphabet."""
        return [text.encode("utf-8", "surrogateescape").decode("latin-1").translate(_LATIN1_TO_ALPHABET)]

    def split_aligned(self, text: str, positions: Sequence[int]) -> list[Aligned]:
        """Each byte has the position of its character."""
        sizes = [len(character.encode("utf-8", "surrogateescape")) for character in text]
        return [(self.split(text)[0], [p for p, size in zip(positions, sizes) for _ in range(size)])]


Step = Split | PrefixSpace | ByteAlphabet


def as_pattern(pattern: str | Iterable[Step]) -> str | tuple[Step, ...]:
    """A pattern in the form in which patterns are compared: a str if it can be one, otherwise a tuple of steps.

    Raises ValueError for an invalid pattern, TypeError for anything that is not a step.
    """
    if isinstance(pattern, str):
        compile_pattern(pattern)
        return pattern
    steps = tuple(pattern)
    if wrong := [step for step in steps if not isinstance(step, Step)]:
        raise TypeError(f"pattern has {wrong[0]!r:.60}; it must be a str, or steps: Split, PrefixSpace, ByteAlphabet")
    if len(steps) == 1 and isinstance(steps[0], Split):
        only = steps[0]
        matches_everything = only.behavior == "isolated" and only.pattern in PATTERNS.values()
        if matches_everything or (only.behavior == "removed" and only.invert):
            return only.pattern
    return steps


def with_prefix_space(text: str) -> str:
    """What PrefixSpace makes of a text, which may be empty."""
    return f" {text}" if text and not text.startswith(" ") else text


_LATIN1_TO_ALPHABET = {byte: ord(character) for byte, character in BYTE_TO_UNICODE.items()}


def _matches(text, compiled) -> Iterator[tuple[int, int, bool]]:
    """The matches and the text between them, in order: first, end, whether it is a match; none is empty."""
    position = 0
    for match in compiled.finditer(text):
        first, end = match.span()
        if first > position:
            yield position, first, False
        if end > first:
            yield first, end, True
        position = end
    if position < len(text):
        yield position, len(text), False


def _merge_matches(parts):
    """The spans of parts, in which a match that follows text without a match is merged with it."""
    spans, previous = [], False
    for first, end, is_match in parts:
        if is_match and not previous and spans:
            before = spans.pop()
            first, end = min(first, before[0]), max(end, before[1])
        spans.append((first, end))
        previous = is_match
    return spans

r"""Pre-tokenization in several steps by array operations: numbers first, then a pattern on what is between them.

    code points → [boundaries → pre-tokens] → keys → ids

Many vocabularies divide a text in steps: SmolLM2 and StarCoder at every digit, DeepSeek V3 into numbers of up to three
digits and runs of Chinese or Japanese characters. Each step applies to every part as to a text of its own. So a
separator is inserted at each boundary of the first steps, the pre-tokenizer of the last step is applied once, and the
separators are removed from its result.

    text      x     1 2 a       the first step isolates every digit
    with ⏎    x     ⏎ 1 ⏎ 2 ⏎ a
    pre-tokens  "x" "   " "1" "2" "a"       GPT-2's pattern alone: "x" "  " " 12" "a"
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from npllm.tokenizers.byte_pair.pattern_spellings import canonical_pattern
from npllm.tokenizers.byte_pair.pre_tokenizers import NUMERIC, Split, Step
from npllm.tokenizers.byte_pair.pretokenize import code_points
from npllm.tokenizers.byte_pair.published_patterns import CHINESE_OR_JAPANESE
from npllm.tokenizers.vectorized.pretokenize_gpt2 import NO_SEPARATORS, Pretokenizer

NEWLINE = ord("\n")
MORE_NUMERIC = ((0x11DE0, 0x11DE9), (0x16FF4, 0x16FF6))  # in NUMERIC, not in \p{N}
CHINESE_OR_JAPANESE_RANGES = ((0x4E00, 0x9FA5), (0x3040, 0x30FF))


class Isolated(NamedTuple):
    """A step that isolates characters of one class: runs of at most `longest` characters (0: of any length)."""

    name: str
    longest: int


ISOLATED_CLASSES = {  # of the first steps, by pattern
    r"\p{N}": Isolated("numbers", 1),
    r"\p{N}{1,3}": Isolated("numbers", 3),
    r"\p{N}+": Isolated("numbers", 0),
    NUMERIC: Isolated("numeric", 1),
    f"{NUMERIC}+": Isolated("numeric", 0),
    CHINESE_OR_JAPANESE: Isolated("chinese or japanese", 0),
}


def steps_pretokenizer(steps: Sequence[Step], last_steps: dict[str, Pretokenizer]) -> Pretokenizer | None:
    """The pre-tokenizer of a tuple of steps, or None if there is none with array operations.

    last_steps  pre-tokenizers by pattern, for the last step
    """
    if not steps or not all(isinstance(step, Split) and not step.invert for step in steps):
        return None
    *first, last = steps
    inner = last_steps.get(canonical_pattern(last.pattern)) if last.behavior == "isolated" else None
    isolated = [_isolated(step) for step in first]
    if inner is None or None in isolated:
        return None
    return StepsPretokenizer(tuple(isolated), inner) if isolated else inner


def _isolated(step):
    if step.behavior == "contiguous":
        found = ISOLATED_CLASSES.get(step.pattern)
        return found and found._replace(longest=0) if found and found.longest == 1 else None
    return ISOLATED_CLASSES.get(step.pattern) if step.behavior == "isolated" else None


class StepsPretokenizer:
    """Isolate characters of some classes, then apply the pre-tokenizer of the last step to each part."""

    def __init__(self, isolated: tuple[Isolated, ...], inner: Pretokenizer):
        self.isolated, self.inner = isolated, inner

    def __call__(self, codes: np.ndarray, separators: np.ndarray = NO_SEPARATORS) -> np.ndarray:
        """The positions where a pre-token begins: code points (n,) → (number of pre-tokens,) int64."""
        boundary = np.zeros(len(codes) + 1, bool)
        for step in self.isolated:
            _mark_boundaries(boundary, codes, step)
        boundary[0] = boundary[len(codes)] = False
        positions = np.flatnonzero(boundary)
        if not len(positions):
            return self.inner(codes, separators)
        inserted = positions + np.arange(len(positions))
        moved = separators + np.searchsorted(positions, separators, side="right")
        with_separators = np.insert(codes, positions, NEWLINE)
        starts = self.inner(with_separators, np.sort(np.concatenate([inserted, moved])))
        is_inserted = np.zeros(len(with_separators), bool)
        is_inserted[inserted] = True
        starts = starts[~is_inserted.take(starts)]
        return starts - np.searchsorted(inserted, starts)


def _mark_boundaries(boundary, codes, step):
    """Set boundary[i] where a part begins at character i, (n + 1,) bool."""
    member = class_table(step.name).take(codes)
    positions = np.flatnonzero(member)
    if not len(positions):
        return
    if step.longest == 1:
        boundary[positions] = boundary[positions + 1] = True
        return
    first = np.ones(len(positions), bool)
    np.not_equal(positions[1:], positions[:-1] + 1, out=first[1:])
    boundary[positions[first]] = True
    boundary[positions[np.append(np.flatnonzero(first)[1:] - 1, len(positions) - 1)] + 1] = True
    if step.longest:
        first_of_run = np.maximum.accumulate(np.where(first, positions, 0))
        boundary[positions[(positions - first_of_run) % step.longest == 0]] = True


@lru_cache
def class_table(name: str) -> np.ndarray:
    """Which code points a class of ISOLATED_CLASSES contains: (1,114,112,) bool."""
    table = np.zeros(0x110000, bool)
    ranges = CHINESE_OR_JAPANESE_RANGES if name == "chinese or japanese" else code_points(r"\p{N}")
    for first, last in (*ranges, *(MORE_NUMERIC if name == "numeric" else ())):
        table[first : last + 1] = True
    table.setflags(write=False)
    return table

"""The components of Hugging Face's tokenizer.json around the model: normalizer, pre_tokenizer, post_processor, decoder.

    {"type": "Split", "pattern": {"Regex": "…"}, "behavior": "Isolated", "invert": false}   ↔   Split("…", "isolated")

Each `read_…` function appends what npllm cannot read to a list of obstacles, and continues, so that a file is refused
with all of them. Each `write_…` function raises ValueError for what the format does not have.

Hugging Face, tokenizers: documentation of the components.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from npllm.tokenizers.byte_pair.normalizers import FORMS, Normalizer, Prepend, Replace, UnicodeForm
from npllm.tokenizers.byte_pair.pattern_spellings import canonical_pattern
from npllm.tokenizers.byte_pair.pre_tokenizers import (
    NUMERIC,
    PUNCTUATION,
    WORDS,
    Behavior,
    ByteAlphabet,
    PrefixSpace,
    Split,
    Step,
    as_pattern,
)
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, PATTERNS
from npllm.tokenizers.formats.oniguruma import from_oniguruma, to_oniguruma

BEHAVIORS: dict[str, Behavior] = {
    "Removed": "removed",
    "Isolated": "isolated",
    "MergedWithPrevious": "merged_with_previous",
    "MergedWithNext": "merged_with_next",
    "Contiguous": "contiguous",
}
BEHAVIOR_NAMES = {value: name for name, value in BEHAVIORS.items()}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}


class PostProcessor(NamedTuple):
    """The ids around a text, and which spaces the offsets leave out (see BPETokenizer)."""

    prefix_ids: tuple[int, ...] = ()
    suffix_ids: tuple[int, ...] = ()
    trim_offsets: str | None = None


def type_of(part: Any) -> str:
    """The type of a component, for a message."""
    return str(part.get("type")) if isinstance(part, dict) else repr(part)[:60]


def read_normalizer(part: Any, obstacles: list[str]) -> tuple[Normalizer, ...]:
    """The steps of a normalizer."""
    steps: list[Normalizer] = []
    for component in _components(part, "normalizers"):
        match component:
            case {"type": "NFC" | "NFD" | "NFKC" | "NFKD" as form}:
                steps.append(UnicodeForm(form))
            case {"type": "Prepend", "prepend": str(content)}:
                steps.append(Prepend(content))
            case {"type": "Replace", "content": str(content), "pattern": pattern}:
                if (translated := _read_pattern(pattern, "normalizer", obstacles)) is not None:
                    steps.append(Replace(translated, content))
            case _:
                wanted = ", ".join((*FORMS, "Prepend", "Replace"))
                obstacles.append(f"normalizer is {type_of(component)}; npllm can read {wanted} and sequences of them")
    return tuple(steps)


def write_normalizer(steps: Sequence[Normalizer]) -> dict[str, Any] | None:
    """The normalizer of the file."""
    parts: list[dict[str, Any]] = []
    for step in steps:
        if isinstance(step, UnicodeForm):
            parts.append({"type": step.form})
        elif isinstance(step, Prepend):
            parts.append({"type": "Prepend", "prepend": step.content})
        else:
            pattern = {"Regex": to_oniguruma(step.pattern)}
            parts.append({"type": "Replace", "pattern": pattern, "content": step.content})
    return _as_one(parts, "normalizers")


def read_pre_tokenizer(part: Any, obstacles: list[str]) -> str | tuple[Step, ...]:
    """The pattern, or the steps, of a pre_tokenizer; it must have one ByteLevel."""
    steps: list[Step] = []
    num_byte_levels = 0
    for component in _components(part, "pretokenizers"):
        if type_of(component) == "ByteLevel":
            num_byte_levels += 1
        steps += _read_step(component, obstacles)
    if num_byte_levels != 1:
        obstacles.append(f"pre_tokenizer is {_described(part)}; npllm can read one that has ByteLevel once")
        return GPT2_PATTERN
    if steps[-1:] == [ByteAlphabet()]:
        steps.pop()
    return as_pattern(steps)


def _read_step(component, obstacles) -> list[Step]:
    """The steps of one pre-tokenizer."""
    match component:
        case {"type": "Split", "pattern": pattern, "behavior": str(behavior), "invert": bool(invert)} if (
            behavior in BEHAVIORS
        ):
            pattern = _read_pattern(pattern, "pre_tokenizer", obstacles)
            return [] if pattern is None else [Split(pattern, BEHAVIORS[behavior], invert)]
        case {"type": "ByteLevel", "add_prefix_space": bool(add_prefix_space)} if isinstance(
            component.get("use_regex", True), bool
        ):
            prefix = [PrefixSpace()] if add_prefix_space else []
            return [*prefix, *([Split(GPT2_PATTERN)] if component.get("use_regex", True) else []), ByteAlphabet()]
        case {"type": "Digits"} if isinstance(component.get("individual_digits", False), bool):
            return [Split(NUMERIC, "isolated" if component.get("individual_digits", False) else "contiguous")]
        case {"type": "Punctuation"} if component.get("behavior", "Isolated") in BEHAVIORS:
            return [Split(PUNCTUATION, BEHAVIORS[component.get("behavior", "Isolated")])]
        case {"type": "Whitespace"}:
            return [Split(WORDS, "removed", True)]
        case {"type": "WhitespaceSplit"}:
            return [Split(r"\s", "removed")]
        case {"type": "CharDelimiterSplit", "delimiter": str(delimiter)} if delimiter:
            return [Split(re.escape(delimiter), "removed")]
    obstacles.append(
        f"pre_tokenizer has {component!r:.80}; npllm can read ByteLevel, Split, Digits, Punctuation, Whitespace, "
        "WhitespaceSplit, CharDelimiterSplit and sequences of them"
    )
    return []


def write_pre_tokenizer(pattern: str | tuple[Step, ...]) -> dict[str, Any]:
    """The pre_tokenizer for a pattern or steps: ByteLevel has GPT-2's pattern; for any other, a Split comes before."""
    if isinstance(pattern, str):
        total = pattern in PATTERNS.values()  # otherwise the pattern may leave out text, and so must the file
        pattern = (Split(pattern) if total else Split(pattern, "removed", invert=True),)
    steps = pattern if ByteAlphabet() in pattern else (*pattern, ByteAlphabet())
    parts, at = [], steps.index(ByteAlphabet())
    before = list(steps[:at])
    byte_level = {**BYTE_LEVEL, "use_regex": before[-1:] == [Split(GPT2_PATTERN)]}
    if byte_level["use_regex"]:
        before.pop()
    if before[-1:] == [PrefixSpace()]:
        before.pop()
        byte_level["add_prefix_space"] = True
    parts = [*map(_write_split, before), byte_level, *map(_write_split, steps[at + 1 :])]
    return _as_one(parts, "pretokenizers")


def _write_split(step):
    match step:
        case Split(pattern, "isolated" | "contiguous" as behavior, False) if pattern == NUMERIC:
            return {"type": "Digits", "individual_digits": behavior == "isolated"}
        case Split(pattern, behavior, False) if pattern == PUNCTUATION:
            return {"type": "Punctuation", "behavior": BEHAVIOR_NAMES[behavior]}
        case Split(pattern, "removed", True) if pattern == WORDS:
            return {"type": "Whitespace"}
        case Split(pattern, behavior, invert):
            regex = {"Regex": to_oniguruma(pattern)}
            return {"type": "Split", "pattern": regex, "behavior": BEHAVIOR_NAMES[behavior], "invert": invert}
    raise ValueError(f"tokenizer.json cannot express the step {step}: it must come right before the bytes")


def read_decoder(part: Any, obstacles: list[str]) -> None:
    """Check that a decoder is that of bytes."""
    components = [component for component in _components(part, "decoders") if type_of(component) != "Fuse"]
    if components and [type_of(component) for component in components] != ["ByteLevel"]:
        obstacles.append(f"decoder is {_described(part)}; npllm can read ByteLevel")


def read_post_processor(part: Any, obstacles: list[str]) -> PostProcessor:
    """The ids around a text, and how offsets are trimmed."""
    prefix, suffix, trim = (), (), None
    for component in _components(part, "processors"):
        ids = trims = None
        match component:
            case {"type": "ByteLevel"}:
                ids, trims = ((), ()), component.get("trim_offsets", True)
            case {"type": "RobertaProcessing", "cls": [str(), int(first)], "sep": [str(), int(last)]}:
                ids, trims = ((first,), (last,)), component.get("trim_offsets", True)
            case {"type": "BertProcessing", "cls": [str(), int(first)], "sep": [str(), int(last)]}:
                ids = (first,), (last,)
            case {"type": "TemplateProcessing", "single": list(template), "special_tokens": dict(special_tokens)}:
                ids = _read_template(template, special_tokens)
        if ids is None:
            obstacles.append(f"post_processor is {component!r:.80}; npllm can read a template with the text once")
            continue
        prefix, suffix = (*ids[0], *prefix), (*suffix, *ids[1])
        if trims:
            trim = "spaces but the prefix" if component.get("add_prefix_space", True) else "spaces"
    return PostProcessor(prefix, suffix, trim)


def write_post_processor(tokenizer) -> dict[str, Any] | None:
    """The post_processor of the file: a template, and ByteLevel if offsets are trimmed."""
    parts = []
    if tokenizer.trim_offsets is not None:
        keep = tokenizer.trim_offsets == "spaces but the prefix"
        parts.append(BYTE_LEVEL | {"add_prefix_space": keep, "trim_offsets": True})
    if tokenizer.prefix_ids or tokenizer.suffix_ids:
        names = {token_id: text for text, token_id in tokenizer.special_tokens.items()}
        around = tokenizer.prefix_ids + tokenizer.suffix_ids
        if missing := [token_id for token_id in around if token_id not in names]:
            raise ValueError(f"prefix_ids and suffix_ids have {missing[0]}, which is no special token")
        before, after = (
            [{"SpecialToken": {"id": names[token_id], "type_id": 0}} for token_id in ids]
            for ids in (tokenizer.prefix_ids, tokenizer.suffix_ids)
        )
        single = [*before, {"Sequence": {"id": "A", "type_id": 0}}, *after]
        tokens = {names[i]: {"id": names[i], "ids": [i], "tokens": [names[i]]} for i in around}
        pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
        parts.append({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens})
    return _as_one(parts, "processors")


def _read_template(template, special_tokens):
    """The ids before and after the text, two tuples; None if the text is not in the template exactly once."""
    sides: list[list[int]] = [[]]
    for item in template:
        match item:
            case {"Sequence": {"id": "A"}}:
                sides.append([])
            case {"SpecialToken": {"id": str(name)}}:
                match special_tokens.get(name):
                    case {"ids": list(ids)} if all(type(token_id) is int and token_id >= 0 for token_id in ids):
                        sides[-1] += ids
                    case _:
                        return None
            case _:
                return None
    return (tuple(sides[0]), tuple(sides[1])) if len(sides) == 2 else None


def _read_pattern(pattern, name, obstacles):
    """A pattern in npllm's syntax, or None with an obstacle."""
    match pattern:
        case {"String": str(text)} if text:
            return re.escape(text)
        case {"Regex": str(regex)}:
            try:
                return canonical_pattern(from_oniguruma(regex))
            except ValueError as error:
                obstacles.append(f"{name}: {error}")
        case _:
            obstacles.append(f"{name} has the pattern {pattern!r:.60}; it must be a Regex or a String")
    return None


def _components(part, key) -> Iterator[Any]:
    """The components of a component: of a Sequence, those of its parts; of null, none."""
    match part:
        case None:
            return
        case {"type": "Sequence"} if isinstance(part.get(key), list):
            for inner in part[key]:
                yield from _components(inner, key) if inner is not None else [inner]
        case _:
            yield part


def _as_one(parts, key):
    """A list of components as one component."""
    return {"type": "Sequence", key: parts} if len(parts) > 1 else next(iter(parts), None)


def _described(part):
    """The types of a component and of its parts, for a message."""
    parts = part.get("pretokenizers", part.get("decoders")) if isinstance(part, dict) else None
    return f"{type_of(part)} of {', '.join(map(type_of, parts))}" if isinstance(parts, list) else type_of(part)

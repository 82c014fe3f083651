"""npllm's own format, a *.json with everything: ranks, pattern, special tokens, and the options of a tokenizer.

{"format": "npllm byte pair encoding", "version": 1, "pattern": …, "special_tokens": {text: id},
 "ranks": {token in GPT-2's alphabet: id}}

Version 2 has further fields, for vocabularies with steps, options or added tokens that are not plain special tokens.
Its pattern may be a list of steps, such as
{"step": "Split", "pattern": …, "behavior": "isolated", "invert": false}.
"""

from dataclasses import asdict, fields
from typing import Any, TypeGuard

from npllm.tokenizers.byte_pair.added_tokens import AddedToken
from npllm.tokenizers.byte_pair.bytes_to_unicode import token_to_unicode, unicode_to_token
from npllm.tokenizers.byte_pair.encode import missing_bytes
from npllm.tokenizers.byte_pair.normalizers import Prepend, Replace, UnicodeForm
from npllm.tokenizers.byte_pair.pre_tokenizers import ByteAlphabet, PrefixSpace, Split

FORMAT = "npllm byte pair encoding"
STEPS = {step.__name__: step for step in (Split, PrefixSpace, ByteAlphabet, UnicodeForm, Prepend, Replace)}
OPTIONS = {  # the options of version 2 and their defaults
    "normalizer": [],
    "added_tokens": [],
    "ignore_merges": True,
    "unmerged": None,
    "unknown_token": None,
    "fuse_unknown": False,
    "allow_missing_bytes": False,
    "prefix_ids": [],
    "suffix_ids": [],
    "trim_offsets": None,
}


def to_npllm_json(tokenizer) -> dict[str, Any]:
    """The content of the file for a BPETokenizer."""
    added = tokenizer.added_tokens
    plain = {token.text: token.id for token in added if token == AddedToken(token.text, token.id)}
    unmerged = tokenizer.ranks.keys() - tokenizer.merged_ranks.keys()
    pattern = tokenizer.pattern
    options = {
        "normalizer": [_write(step) for step in tokenizer.normalizers],
        "added_tokens": [_write_added(token) for token in added if token.text not in plain],
        "ignore_merges": tokenizer.ignore_merges,
        "unmerged": sorted(map(token_to_unicode, unmerged)) if unmerged or not tokenizer.ignore_merges else None,
        "unknown_token": tokenizer.unknown_token,
        "fuse_unknown": tokenizer.fuse_unknown,
        "allow_missing_bytes": bool(missing_bytes(tokenizer.ranks)),
        "prefix_ids": list(tokenizer.prefix_ids),
        "suffix_ids": list(tokenizer.suffix_ids),
        "trim_offsets": tokenizer.trim_offsets,
    }
    is_plain = isinstance(pattern, str) and options == OPTIONS
    return {
        "format": FORMAT,
        "version": 1 if is_plain else 2,
        "pattern": pattern if isinstance(pattern, str) else [_write(step) for step in pattern],
        "special_tokens": plain,
        **({} if is_plain else options),
        "ranks": {token_to_unicode(token): rank for token, rank in tokenizer.ranks.items()},
    }


def from_npllm_json(content: Any, name: str = "the file") -> dict[str, Any]:
    """The arguments of BPETokenizer from the parsed JSON of a file; raises ValueError if it is invalid."""
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") not in (1, 2):
        raise ValueError(f'{name} does not contain "format": "{FORMAT}", "version": 1 or 2')
    ranks, pattern, special_tokens = (content.get(key) for key in ("ranks", "pattern", "special_tokens"))
    if not (isinstance(pattern, (str, list)) and is_id_table(ranks) and is_id_table(special_tokens)):
        raise ValueError(f"{name} must have a pattern (text), ranks and special_tokens (objects from texts to ids)")
    arguments = {
        "ranks": {unicode_to_token(token): rank for token, rank in ranks.items()},
        "pattern": pattern if isinstance(pattern, str) else tuple(_read(step) for step in pattern),
        "special_tokens": special_tokens,
    }
    return arguments if content["version"] == 1 else arguments | _read_options(content, name)


def is_id_table(table: Any) -> TypeGuard[dict[str, int]]:
    """True if a value from JSON is an object whose values are ids: integers of 0 or more."""
    return isinstance(table, dict) and set(map(type, table.values())) <= {int} and min(table.values(), default=0) >= 0


def _read_options(content, name):
    options = {key: content.get(key, default) for key, default in OPTIONS.items()}
    for key, default in OPTIONS.items():
        kind = {"unmerged": list, "unknown_token": str, "trim_offsets": str}.get(key, type(default))
        if not isinstance(options[key], kind) and options[key] is not default:
            raise ValueError(f"{name} has the {key} {options[key]!r:.60}; it must be {kind.__name__}")
    options["normalizer"] = [_read(step) for step in options["normalizer"]]
    options["added_tokens"] = [_read_added(token, name) for token in options["added_tokens"]]
    if options["unmerged"] is not None:
        options["unmerged"] = [unicode_to_token(str(token)) for token in options["unmerged"]]
    if not all(type(i) is int for i in options["prefix_ids"] + options["suffix_ids"]):
        raise ValueError(f"{name} has prefix_ids and suffix_ids that are no lists of ids")
    return options


def _write(step):
    return {"step": type(step).__name__, **asdict(step)}


def _read(step):
    """A step; raises ValueError if it is invalid."""
    if not isinstance(step, dict) or not isinstance(step.get("step"), str) or step["step"] not in STEPS:
        raise ValueError(f"a step is {step!r:.60}; it must be one of {', '.join(STEPS)}")
    kind = STEPS[step["step"]]
    arguments: dict[str, Any] = {field.name: step.get(field.name) for field in fields(kind)}
    types = {"invert": bool}
    if wrong := [key for key, value in arguments.items() if not isinstance(value, types.get(key, str))]:
        raise ValueError(f"{wrong[0]} of the step {step['step']} is {arguments[wrong[0]]!r:.60}")
    return kind(**arguments)


def _write_added(token):
    data = None if token.data is None else token_to_unicode(token.data)
    return {**asdict(token), "data": data}


def _read_added(token, name):
    """An AddedToken; raises ValueError if it is invalid."""
    names = [field.name for field in fields(AddedToken)]
    valid = isinstance(token, dict) and token.keys() == set(names) and isinstance(token["text"], str)
    valid = valid and type(token["id"]) is int and isinstance(token["data"], (str, type(None)))
    if not valid or not all(isinstance(token[key], bool) for key in names[2:-1]):
        raise ValueError(f"{name} has the added token {token!r:.80}; it must have {', '.join(names)}")
    return AddedToken(**{**token, "data": None if token["data"] is None else unicode_to_token(token["data"])})

"""npllm's own format, a *.json with everything: ranks, pattern, special tokens.

{"format": "npllm byte pair encoding", "version": 1, "pattern": …, "special_tokens": {text: id},
 "ranks": {token in GPT-2's alphabet: id}}
"""

from typing import Any, TypeGuard

from npllm.tokenizers.byte_pair.bytes_to_unicode import token_to_unicode, unicode_to_token

FORMAT = "npllm byte pair encoding"


def to_npllm_json(tokenizer) -> dict[str, Any]:
    """The content of the file for a BPETokenizer."""
    return {
        "format": FORMAT,
        "version": 1,
        "pattern": tokenizer.pattern,
        "special_tokens": tokenizer.special_tokens,
        "ranks": {token_to_unicode(token): rank for token, rank in tokenizer.ranks.items()},
    }


def from_npllm_json(content: Any, name: str = "the file") -> tuple[dict[bytes, int], str, dict[str, int]]:
    """(ranks, pattern, special tokens) from the parsed JSON of a file; raises ValueError if it is invalid."""
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != 1:
        raise ValueError(f'{name} does not contain "format": "{FORMAT}", "version": 1')
    ranks, pattern, special_tokens = (content.get(key) for key in ("ranks", "pattern", "special_tokens"))
    if not (isinstance(pattern, str) and is_id_table(ranks) and is_id_table(special_tokens)):
        raise ValueError(f"{name} must have a pattern (text), ranks and special_tokens (objects from texts to ids)")
    return {unicode_to_token(token): rank for token, rank in ranks.items()}, pattern, special_tokens


def is_id_table(table: Any) -> TypeGuard[dict[str, int]]:
    """True if a value from JSON is an object whose values are ids: integers of 0 or more."""
    return isinstance(table, dict) and all(type(index) is int and index >= 0 for index in table.values())

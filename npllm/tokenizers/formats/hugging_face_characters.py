"""tokenizer.json of a CharacterTokenizer: a pre-tokenizer that splits into characters, and a table of words.

    text → [Split: every character is a pre-token] → [WordLevel: pre-token → id] → ids

Hugging Face, tokenizers (documentation of the components).
"""

from collections.abc import Sequence
from typing import Any

EVERY_CHARACTER = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}


def is_characters_json(content: Any) -> bool:
    """True if parsed JSON has the form of `to_characters_json`."""
    return isinstance(content, dict) and content.get("pre_tokenizer") == EVERY_CHARACTER and _is_word_level(content)


def to_characters_json(characters: Sequence[str]) -> dict[str, Any]:
    """The content of tokenizer.json for characters in the order of their ids. Raises ValueError for a lone surrogate.

    A character without an id raises an error in tokenizers too: the unknown token of the file is not in its table.
    """
    if wrong := [character for character in characters if "\ud800" <= character <= "\udfff"]:
        raise ValueError(f"tokenizer.json cannot hold {wrong[0]!r}, half of a surrogate pair")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": EVERY_CHARACTER,
        "post_processor": None,
        "decoder": {"type": "Fuse"},  # no spaces between the characters
        "model": {"type": "WordLevel", "vocab": {c: i for i, c in enumerate(characters)}, "unk_token": "<unk>"},
    }


def from_characters_json(content: dict[str, Any]) -> str:
    """The characters in the order of their ids; raises ValueError if the ids are not 0, 1, 2, …"""
    table = content["model"]["vocab"]
    if sorted(table.values()) != list(range(len(table))) or any(len(character) != 1 for character in table):
        raise ValueError("model.vocab must assign the ids 0, 1, 2, … to single characters")
    return "".join(sorted(table, key=table.__getitem__))


def _is_word_level(content):
    model = content.get("model")
    if not isinstance(model, dict) or model.get("type") != "WordLevel" or not isinstance(model.get("vocab"), dict):
        return False
    return all(type(token_id) is int for token_id in model["vocab"].values())

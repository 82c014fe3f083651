r"""Hugging Face's tokenizer.json: a whole pipeline in one file. npllm reads the pipelines of byte pair encoding.

    text → special tokens → pre-tokens → bytes → merges → ids
           added_tokens     pre_tokenizer        model

In this format the *index in the list of merges*, not the id, decides which pair is merged first. Both orders give the
same ids if the merges that can happen are listed in the order of their ids. (The list may contain further merges whose
two tokens are never adjacent; see `vectorized.merge_tree`.) This is checked when a file is read. `ignore_merges` means
that a pre-token in the vocabulary is that token, whatever the merges give. npllm always does this; it makes a
difference if the vocabulary has tokens that no merges produce.

Any component that would change the ids is refused with a message. A post-processor, which adds tokens around a text, is
ignored: `encode` adds none.

Hugging Face, tokenizers (documentation of the components).
"""

import json
from typing import Any

from npllm.tokenizers.byte_pair.bytes_to_unicode import UNICODE_TO_BYTE, token_to_unicode, unicode_to_token
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, PATTERNS
from npllm.tokenizers.formats.npllm_json import is_id_table
from npllm.tokenizers.formats.oniguruma import from_oniguruma, to_oniguruma
from npllm.tokenizers.vectorized.merge_tree import reachable_merges

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
# The values that npllm accepts for each field; a missing field counts as null. The fields for unknown characters are
# not checked: every byte must have a token, so no character is unknown.
TOP_LEVEL = {"normalizer": (None,), "truncation": (None,), "padding": (None,)}
MODEL = {
    "type": (None, "BPE"),
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
    "ignore_merges": (None, False, True),
}
ADDED_TOKEN = dict.fromkeys(("single_word", "lstrip", "rstrip"), (None, False))


def is_tokenizer_json(content: Any) -> bool:
    """True if parsed JSON has the form of Hugging Face's tokenizer.json."""
    return isinstance(content, dict) and "model" in content


def to_tokenizer_json(tokenizer) -> dict[str, Any]:
    """The content of tokenizer.json for a BPETokenizer. Raises ValueError if it cannot reproduce the ids."""
    vocabulary = {token_to_unicode(token): rank for token, rank in _by_id(tokenizer.ranks)}
    special = dict(_by_id(tokenizer.special_tokens))
    if both := sorted(vocabulary.keys() & special.keys()):
        raise ValueError(
            f"tokenizer.json cannot distinguish the special token {both[0]!r} from a token; save it under another "
            "*.json name, in npllm's format"
        )
    merges = reachable_merges(tokenizer.ranks)
    ignore_merges = bool(_unreachable_tokens(tokenizer.ranks, merges))
    _check_special_are_not_pretokens(special, ignore_merges)
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": ignore_merges,
        "vocab": vocabulary | special,  # a special token outside of vocab would get the next free id
        "merges": [[token_to_unicode(left), token_to_unicode(right)] for left, right in merges],
    }
    flags = dict.fromkeys((*ADDED_TOKEN, "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": rank, "content": text, **flags, "special": True} for text, rank in special.items()],
        "normalizer": None,
        "pre_tokenizer": _pre_tokenizer(tokenizer.pattern),
        "post_processor": None,  # ByteLevel's would exclude leading whitespace from the offsets
        "decoder": BYTE_LEVEL,
        "model": model,
    }


def from_tokenizer_json(content: dict[str, Any]) -> tuple[dict[bytes, int], str, dict[str, int]]:
    """(ranks, pattern, special tokens) from the parsed JSON. Raises ValueError if they would give other ids.

    All added tokens become special tokens, whether or not the file marks them as special.
    """
    model, decoder = content["model"], content.get("decoder")
    _check_fields(content, TOP_LEVEL, "the file")
    _check_fields(model, MODEL, "model")
    if decoder is not None and _type(decoder) != "ByteLevel":
        raise ValueError(f"decoder is {_type(decoder)}; npllm can read ByteLevel")
    vocabulary, pattern = model.get("vocab"), _pattern(content.get("pre_tokenizer"))
    if not is_id_table(vocabulary):
        raise ValueError("model.vocab must be an object from tokens to ids")
    special = _special_tokens(content.get("added_tokens") or [], vocabulary)
    ranks = {unicode_to_token(token): rank for token, rank in vocabulary.items() if token not in special}
    _check_special_are_not_pretokens(special.keys() & vocabulary.keys(), model.get("ignore_merges"))
    _check_merge_order(ranks, _merges(model.get("merges")), model.get("ignore_merges"))
    return ranks, pattern, special


def _by_id(table):
    return sorted(table.items(), key=lambda item: item[1])


def _check_fields(part, allowed, name):
    if not isinstance(part, dict):
        raise ValueError(f"{name} is {part!r:.60}; it must be a JSON object")
    for key, values in allowed.items():
        if part.get(key) not in values:
            wanted = " or ".join(map(json.dumps, values))
            raise ValueError(f"{key} of {name} is {part[key]!r:.60}; npllm can read {wanted}")


def _type(part):
    """The type of a component, for a message."""
    return part.get("type") if isinstance(part, dict) else repr(part)[:60]


def _pre_tokenizer(pattern):
    """The pre_tokenizer for a pattern: ByteLevel has GPT-2's pattern; for any other, a Split comes before it."""
    if pattern == GPT2_PATTERN:
        return BYTE_LEVEL
    split = {"type": "Split", "pattern": {"Regex": to_oniguruma(pattern)}, "behavior": "Isolated", "invert": False}
    if pattern not in PATTERNS.values():  # the pattern may leave out text, and so must the file
        split |= {"behavior": "Removed", "invert": True}
    return {"type": "Sequence", "pretokenizers": [split, BYTE_LEVEL | {"use_regex": False}]}


def _pattern(pre_tokenizer):
    """The pattern of a pre_tokenizer."""
    match pre_tokenizer:
        case {"type": "ByteLevel", "add_prefix_space": False} if pre_tokenizer.get("use_regex", True) is True:
            return GPT2_PATTERN
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": behavior, "invert": bool(invert)},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        } if behavior == "Isolated" or (behavior == "Removed" and invert):
            pattern = from_oniguruma(pattern)
            return pattern if behavior == "Removed" or pattern in PATTERNS.values() else _with_unmatched(pattern)
    parts = pre_tokenizer.get("pretokenizers") if isinstance(pre_tokenizer, dict) else None
    of = f" of {', '.join(str(_type(part)) for part in parts)}" if isinstance(parts, list) else ""
    raise ValueError(
        f"pre_tokenizer is {_type(pre_tokenizer)}{of}; npllm can read ByteLevel without add_prefix_space, alone with "
        "use_regex, or without it after one Split by a Regex (Isolated, or Removed and inverted)"
    )


def _with_unmatched(pattern):
    """Isolated makes a pre-token of the text between two matches, which findall leaves out."""
    return rf"{pattern}|(?:(?!{pattern})[\s\S])+"


def _special_tokens(added_tokens, vocabulary):
    """A dict from added tokens to ids."""
    if not isinstance(added_tokens, list):
        raise ValueError(f"added_tokens is {added_tokens!r:.60}; it must be a list")
    special, early, late, next_id = {}, [], [], len(vocabulary)
    for token in added_tokens:
        _check_fields(token, ADDED_TOKEN, "an added token")
        text = token.get("content")
        if not isinstance(text, str) or text in special or not is_id_table({text: token.get("id")}):
            raise ValueError(f"added_tokens has {token!r:.80}; each must have a unique content (text) and an id")
        special[text] = vocabulary.get(text, next_id)  # Hugging Face's library ignores the id in the file
        if token["id"] != special[text]:
            raise ValueError(f"the added token {text!r} has id {token['id']}; Hugging Face reads it as {special[text]}")
        next_id = max(next_id, special[text] + 1)
        (late if token.get("normalized") else early).append(text)
    for one, other in ((one, other) for one in early for other in late):
        if _may_overlap(one, other):
            raise ValueError(f"the added token {one!r} is matched before {other!r}; npllm matches all at once")
    return special


def _may_overlap(one, other):
    shorter = range(1, min(len(one), len(other)))
    ends = any(one.endswith(other[:size]) or other.endswith(one[:size]) for size in shorter)
    return ends or one in other or other in one


def _check_special_are_not_pretokens(special, ignore_merges):
    """Refuse a special token such as "Ġx": with ignore_merges, the pre-token " x" would get its id, too."""
    ambiguous = [text for text in special if not text.isascii() and UNICODE_TO_BYTE.keys() >= set(text)]
    if ignore_merges and ambiguous:
        raise ValueError(f"tokenizer.json cannot distinguish the special token {ambiguous[0]!r} from ordinary text")


def _merges(merges):
    """The merges as pairs of byte strings; older files have "a b", newer ones ["a", "b"]."""
    if not isinstance(merges, list):
        raise ValueError(f"model.merges is {merges!r:.60}; it must be a list")
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise ValueError(f"model.merges has {pair!r:.60}; each must be two tokens")
    return [(unicode_to_token(left), unicode_to_token(right)) for left, right in pairs]


def _check_merge_order(ranks, merges, ignore_merges):
    """Raise ValueError unless the order of the merges gives the same ids as the order of the ranks."""
    for left, right in merges:
        if missing := [token for token in (left, right, left + right) if token not in ranks]:
            name = token_to_unicode(missing[0])
            raise ValueError(f"model.merges uses {name!r}, which is missing from model.vocab")
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise ValueError(f"model.vocab has no token for byte {missing[0]}; every single byte must have one")
    if len(set(ranks.values())) != len(ranks):
        raise ValueError("model.vocab assigns one id to several tokens; every token needs its own")
    reachable, index = reachable_merges(ranks), {pair: i for i, pair in enumerate(merges)}
    for left, right in reachable:
        if (left, right) not in index:
            pair = f"{token_to_unicode(left)!r} and {token_to_unicode(right)!r}"
            raise ValueError(f"model.merges does not merge {pair}; their ids require it")
    order = [index[pair] for pair in reachable]
    if order != sorted(order):
        raise ValueError("the ids of model.vocab do not increase in the order of model.merges")
    if not ignore_merges and (unreachable := _unreachable_tokens(ranks, reachable)):
        raise ValueError(
            f"no merges produce {token_to_unicode(unreachable[0])!r}; then ignore_merges of model must be true"
        )


def _unreachable_tokens(ranks, merges):
    """The tokens of more than one byte that no merges produce."""
    produced = {left + right for left, right in merges}
    return [token for token in ranks if len(token) > 1 and token not in produced]

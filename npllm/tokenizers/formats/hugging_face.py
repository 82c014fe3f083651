r"""Hugging Face's tokenizer.json: a whole pipeline in one file, of which byte pair encoding is one kind.

    text → special tokens cut out → pieces → bytes → merges → ids
           added_tokens             pre_tokenizer    model

It says more than ranks do, and merges by another number: the lowest *place in the list of merges* goes first, whatever
the ids. Both give the same ids if the merges that happen stand in the list in the order of their ids; others may stand
there, too, as their two tokens are never side by side (see `fast.merge_tree`). That is checked before a file is
believed. `ignore_merges` says what we always do: a piece that is a token is that token. It makes a difference if there
are tokens that no merges lead to.

What would give other ids is refused, with a sentence. A post-processor, which puts tokens around a text, is left out:
`encode` adds none.

Hugging Face, tokenizers (documentation of the components).
"""

import json

from npllm.tokenizers.byte_pair.bytes_to_unicode import UNICODE_TO_BYTE, is_id_table, token_to_unicode, unicode_to_token
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, PATTERNS
from npllm.tokenizers.formats.oniguruma import from_oniguruma, to_oniguruma
from npllm.tokenizers.vectorized.merge_tree import merges_that_happen

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
# What each part must be; the file may leave it out. A prefix or suffix of nothing is none. What it says of unknown
# characters does not matter: every byte must have a token, so there are none.
OUTSIDE = {"normalizer": (None,), "truncation": (None,), "padding": (None,)}
IN_MODEL = {
    "type": (None, "BPE"),
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
    "ignore_merges": (None, False, True),
}
IN_TOKEN = dict.fromkeys(("single_word", "lstrip", "rstrip"), (None, False))


def is_tokenizer_json(content):
    """Is this JSON, already read, meant to be Hugging Face's?"""
    return isinstance(content, dict) and "model" in content


def to_tokenizer_json(tokenizer):
    """What tokenizer.json holds for a BPETokenizer. Raises ValueError if it cannot give the same ids."""
    vocabulary = {token_to_unicode(token): rank for token, rank in _by_id(tokenizer.ranks)}
    special = dict(_by_id(tokenizer.special_tokens))
    if both := sorted(vocabulary.keys() & special.keys()):
        raise ValueError(f"tokenizer.json cannot tell the special token {both[0]!r} from a token; another *.json can")
    merges = merges_that_happen(tokenizer.ranks)
    ignore_merges = bool(_not_made(tokenizer.ranks, merges))
    _special_must_not_be_pieces(special, ignore_merges)
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": ignore_merges,
        "vocab": vocabulary | special,  # elsewhere a special token has no id, but the next one that is free
        "merges": [[token_to_unicode(left), token_to_unicode(right)] for left, right in merges],
    }
    flags = dict.fromkeys((*IN_TOKEN, "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": rank, "content": text, **flags, "special": True} for text, rank in special.items()],
        "normalizer": None,
        "pre_tokenizer": _pre_tokenizer(tokenizer.pattern),
        "post_processor": None,  # theirs would take blanks out of the offsets
        "decoder": BYTE_LEVEL,
        "model": model,
    }


def from_tokenizer_json(content):
    """(ranks, pattern, special tokens) of what tokenizer.json holds. Raises ValueError if they give other ids.

    Added tokens are special tokens here, whether or not the file calls them so.
    """
    model, decoder = content["model"], content.get("decoder")
    _must_be(content, OUTSIDE, "the file")
    _must_be(model, IN_MODEL, "model")
    if decoder is not None and _type(decoder) != "ByteLevel":
        raise ValueError(f"decoder is {_type(decoder)}; npllm can read ByteLevel")
    vocabulary, pattern = model.get("vocab"), _pattern(content.get("pre_tokenizer"))
    if not is_id_table(vocabulary):
        raise ValueError("model.vocab must be a table from tokens to ids")
    special = _special_tokens(content.get("added_tokens") or [], vocabulary)
    ranks = {unicode_to_token(token): rank for token, rank in vocabulary.items() if token not in special}
    _special_must_not_be_pieces(special.keys() & vocabulary.keys(), model.get("ignore_merges"))
    _must_merge_by_rank(ranks, _merges(model.get("merges")), model.get("ignore_merges"))
    return ranks, pattern, special


def _by_id(table):
    return sorted(table.items(), key=lambda item: item[1])


def _must_be(part, allowed, name):
    if not isinstance(part, dict):
        raise ValueError(f"{name} is {part!r:.60}; it must be a JSON object")
    for key, values in allowed.items():
        if part.get(key) not in values:
            wanted = " or ".join(map(json.dumps, values))
            raise ValueError(f"{key} of {name} is {part[key]!r:.60}; npllm can read {wanted}")


def _type(part):
    """What kind of part this is, for a sentence."""
    return part.get("type") if isinstance(part, dict) else repr(part)[:60]


def _pre_tokenizer(pattern):
    """GPT-2's pattern is the one that ByteLevel has; another one goes before it."""
    if pattern == GPT2_PATTERN:
        return BYTE_LEVEL
    split = {"type": "Split", "pattern": {"Regex": to_oniguruma(pattern)}, "behavior": "Isolated", "invert": False}
    if pattern not in PATTERNS.values():  # it may leave out something; then, so must the file
        split |= {"behavior": "Removed", "invert": True}
    return {"type": "Sequence", "pretokenizers": [split, BYTE_LEVEL | {"use_regex": False}]}


def _pattern(pre_tokenizer):
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
            return pattern if behavior == "Removed" or pattern in PATTERNS.values() else _with_the_rest(pattern)
    parts = pre_tokenizer.get("pretokenizers") if isinstance(pre_tokenizer, dict) else None
    of = f" of {', '.join(str(_type(part)) for part in parts)}" if isinstance(parts, list) else ""
    raise ValueError(
        f"pre_tokenizer is {_type(pre_tokenizer)}{of}; npllm can read ByteLevel without add_prefix_space, alone with "
        "use_regex, or without it after one Split by a Regex (Isolated, or Removed and inverted)"
    )


def _with_the_rest(pattern):
    """Isolated makes a piece of what stands between two matches, where findall leaves it out."""
    return rf"{pattern}|(?:(?!{pattern})[\s\S])+"


def _special_tokens(added_tokens, vocabulary):
    """A table from added tokens to ids."""
    if not isinstance(added_tokens, list):
        raise ValueError(f"added_tokens is {added_tokens!r:.60}; it must be a list")
    special, early, late, following = {}, [], [], len(vocabulary)
    for token in added_tokens:
        _must_be(token, IN_TOKEN, "an added token")
        text = token.get("content")
        if not isinstance(text, str) or text in special or not is_id_table({text: token.get("id")}):
            raise ValueError(f"added_tokens has {token!r:.80}; each must have a content of its own (text) and an id")
        special[text] = vocabulary.get(text, following)  # so Hugging Face counts, whatever the file says
        if token["id"] != special[text]:
            raise ValueError(f"the added token {text!r} has id {token['id']}; read by its owner it is {special[text]}")
        following = max(following, special[text] + 1)
        (late if token.get("normalized") else early).append(text)
    for one, other in ((one, other) for one in early for other in late):
        if _may_overlap(one, other):
            raise ValueError(f"the added token {one!r} is looked for before {other!r}; npllm looks for all at once")
    return special


def _may_overlap(one, other):
    shorter = range(1, min(len(one), len(other)))
    ends = any(one.endswith(other[:size]) or other.endswith(one[:size]) for size in shorter)
    return ends or one in other or other in one


def _special_must_not_be_pieces(special, ignore_merges):
    """In the vocabulary "Ġx" may be a special token; with ignore_merges, it would be the piece " x", too."""
    strange = [text for text in special if not text.isascii() and UNICODE_TO_BYTE.keys() >= set(text)]
    if ignore_merges and strange:
        raise ValueError(f"tokenizer.json cannot tell the special token {strange[0]!r} from a piece of text")


def _merges(merges):
    """Pairs of byte strings; older files have "a b", newer ones ["a", "b"]."""
    if not isinstance(merges, list):
        raise ValueError(f"model.merges is {merges!r:.60}; it must be a list")
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise ValueError(f"model.merges has {pair!r:.60}; each must be two tokens")
    return [(unicode_to_token(left), unicode_to_token(right)) for left, right in pairs]


def _must_merge_by_rank(ranks, merges, ignore_merges):
    """Raise ValueError unless the merges give, by their places in the list, what the ranks give."""
    for left, right in merges:
        if strange := [token for token in (left, right, left + right) if token not in ranks]:
            name = token_to_unicode(strange[0])
            raise ValueError(f"model.merges uses {name!r}, which is missing from model.vocab")
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise ValueError(f"model.vocab has no token for byte {missing[0]}; every single byte must have one")
    if len(set(ranks.values())) != len(ranks):
        raise ValueError("model.vocab gives one id to several tokens; every token needs its own")
    happening, places = merges_that_happen(ranks), {pair: place for place, pair in enumerate(merges)}
    for left, right in happening:
        if (left, right) not in places:
            pair = f"{token_to_unicode(left)!r} and {token_to_unicode(right)!r}"
            raise ValueError(f"model.merges does not join {pair}; by their ids they would be joined")
    order = [places[pair] for pair in happening]
    if order != sorted(order):
        raise ValueError("the ids of model.vocab do not rise with model.merges")
    if not ignore_merges and (never := _not_made(ranks, happening)):
        raise ValueError(f"no merges lead to {token_to_unicode(never[0])!r}; npllm needs ignore_merges to read that")


def _not_made(ranks, merges):
    """The tokens that no merges lead to."""
    made = {left + right for left, right in merges}
    return [token for token in ranks if len(token) > 1 and token not in made]

r"""Hugging Face's tokenizer.json: a whole pipeline in one file. npllm reads the pipelines of byte-level BPE.

    text → added tokens → normalized text → pre-tokens → bytes → merges → ids
           added_tokens   normalizer        pre_tokenizer        model

In this format the *index in the list of merges*, not the id, decides which pair is merged first. Both orders give the
same ids if the merges that can happen are listed in the order of their ids. (The list may contain further merges whose
two tokens are never adjacent; see `vectorized.merge_tree`.) This is checked when a file is read. `ignore_merges` means
that a pre-token in the vocabulary is that token, whatever the merges give; it makes a difference for tokens that no
merges produce.

The components around the model are in `hugging_face_components`. A file with anything that would give other ids is
refused, with all that npllm cannot read.

Hugging Face, tokenizers (documentation of the components).
"""

import json
from dataclasses import replace
from itertools import chain, repeat
from operator import add
from typing import Any

from npllm.tokenizers.byte_pair.added_tokens import AddedToken, as_written_in_bytes
from npllm.tokenizers.byte_pair.bytes_to_unicode import (
    UNICODE_TO_BYTE,
    token_to_unicode,
    unicode_to_tokens,
)
from npllm.tokenizers.byte_pair.encode import missing_bytes
from npllm.tokenizers.formats.hugging_face_components import (
    BYTE_LEVEL,
    read_decoder,
    read_normalizer,
    read_post_processor,
    read_pre_tokenizer,
    write_normalizer,
    write_post_processor,
    write_pre_tokenizer,
)
from npllm.tokenizers.formats.npllm_json import is_id_table
from npllm.tokenizers.vectorized.merge_tree import reachable_merges, unreachable_tokens

# The values that npllm accepts for each field; a missing field counts as null.
TOP_LEVEL = {"truncation": (None,)}
MODEL = {
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
    "ignore_merges": (None, False, True),
    "fuse_unk": (None, False, True),
}
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
OTHER_MODELS = {"Unigram": "a Unigram model (SentencePiece)", "WordPiece": "WordPiece (BERT)", "WordLevel": "words"}


def is_tokenizer_json(content: Any) -> bool:
    """True if parsed JSON has the form of Hugging Face's tokenizer.json."""
    return isinstance(content, dict) and "model" in content


def is_byte_level(content: dict[str, Any]) -> bool:
    """True if the parsed JSON of a tokenizer.json has the pre-tokenizer ByteLevel, or its decoder."""
    return any('"ByteLevel"' in json.dumps(content.get(key)) for key in ("pre_tokenizer", "decoder"))


def to_tokenizer_json(tokenizer) -> dict[str, Any]:
    """The content of tokenizer.json for a BPETokenizer. Raises ValueError if it cannot reproduce the ids."""
    vocabulary = {token_to_unicode(token): rank for token, rank in _by_id(tokenizer.ranks)}
    special = dict(_by_id(tokenizer.special_tokens))
    if both := sorted(text for text in vocabulary.keys() & special.keys() if vocabulary[text] != special[text]):
        raise ValueError(
            f"tokenizer.json cannot distinguish the special token {both[0]!r} from a token; save it under another "
            "*.json name, in npllm's format"
        )
    added = sorted(tokenizer.added_tokens, key=lambda token: token.id)
    merges = reachable_merges(tokenizer.merged_ranks)
    ignore_merges = tokenizer.ignore_merges and bool(unreachable_tokens(tokenizer.ranks, merges))
    for token in added:
        _check_can_be_written(token, ignore_merges, tokenizer.ranks)
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": tokenizer.unknown_token,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": tokenizer.fuse_unknown,
        "byte_fallback": False,
        "ignore_merges": ignore_merges,
        "vocab": vocabulary | special,  # a special token outside of vocab would get the next free id
        "merges": [[token_to_unicode(left), token_to_unicode(right)] for left, right in merges],
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token.id, "content": token.text, **{flag: getattr(token, flag) for flag in FLAGS}} for token in added
        ],
        "normalizer": write_normalizer(tokenizer.normalizers),
        "pre_tokenizer": write_pre_tokenizer(tokenizer.pattern),
        "post_processor": write_post_processor(tokenizer),
        "decoder": BYTE_LEVEL,
        "model": model,
    }


def from_tokenizer_json(content: dict[str, Any]) -> dict[str, Any]:
    """The arguments of BPETokenizer from the parsed JSON.

    Raises ValueError, with everything that npllm cannot read, if they would give other ids.
    """
    model = content["model"]
    if not isinstance(model, dict):
        raise ValueError(f"model is {model!r:.60}; it must be a JSON object")
    obstacles: list[str] = []
    if model.get("type") not in (None, "BPE"):
        kind = OTHER_MODELS.get(str(model["type"]), "another model")
        obstacles.append(f'type of model is {model["type"]!r}, {kind}; npllm can read null or "BPE"')
    _check_fields(content, TOP_LEVEL, "the file", obstacles)
    _check_padding(content.get("padding"), obstacles)
    _check_fields(model, MODEL, "model", obstacles)
    arguments = {
        "normalizer": read_normalizer(content.get("normalizer"), obstacles),
        "pattern": read_pre_tokenizer(content.get("pre_tokenizer"), obstacles),
        **read_post_processor(content.get("post_processor"), obstacles)._asdict(),
        "ignore_merges": bool(model.get("ignore_merges")),
        "fuse_unknown": bool(model.get("fuse_unk")),
    }
    read_decoder(content.get("decoder"), obstacles)
    if not is_id_table(model.get("vocab")):
        obstacles.append("model.vocab must be an object from tokens to ids")
    if obstacles:
        raise ValueError("; ".join(obstacles))
    return arguments | _vocabulary(model, content.get("added_tokens") or [])


def _vocabulary(model, added_tokens):
    """The arguments of BPETokenizer that say which tokens there are. Raises ValueError for the first obstacle."""
    vocabulary, merges, ignore_merges = model["vocab"], _merges(model.get("merges")), bool(model.get("ignore_merges"))
    added = _added_tokens(added_tokens, vocabulary)
    ordinary = [text for text in vocabulary if text not in added]
    ranks = dict(zip(unicode_to_tokens(ordinary), map(vocabulary.__getitem__, ordinary)))
    # added tokens that may also be ordinary ones
    in_both = [text for text in added if text in vocabulary and UNICODE_TO_BYTE.keys() >= set(text)]
    doubtful = dict(zip(unicode_to_tokens(in_both), in_both))
    merged = set().union(*(frozenset(doubtful).intersection(tokens) for tokens in _parts(merges)))
    for token, text in doubtful.items():
        if len(token) == 1 or token in merged or (ignore_merges and not text.isascii()):
            ranks[token] = vocabulary[text]
    unknown = model.get("unk_token")
    unknown = unknown if isinstance(unknown, str) and (unknown in vocabulary or unknown in added) else None
    missing = missing_bytes(ranks)
    if len(missing) == 256:
        raise ValueError("model.vocab has no token for a single byte")
    if missing and unknown is None and model.get("unk_token") is not None:
        raise ValueError(f"unk_token of model is {model['unk_token']!r:.60}, which is no token")
    return {
        "ranks": ranks,
        "added_tokens": list(added.values()),
        "unknown_token": unknown,
        "allow_missing_bytes": bool(missing),
        "unmerged": _unmerged(ranks, merges, ignore_merges),
    }


def _by_id(table):
    return sorted(table.items(), key=lambda item: item[1])


def _check_fields(part, allowed, name, obstacles):
    for key, values in allowed.items():
        if part.get(key) not in values:
            wanted = " or ".join(map(json.dumps, values))
            obstacles.append(f"{key} of {name} is {part[key]!r:.60}; npllm can read {wanted}")


def _check_padding(padding, obstacles):
    """Padding to the longest text of a batch does not change the ids of a single text."""
    longest = isinstance(padding, dict) and padding.get("strategy") == "BatchLongest"
    if padding is not None and not (longest and not padding.get("pad_to_multiple_of")):
        obstacles.append(f"padding of the file is {padding!r:.60}; npllm can read null or the strategy BatchLongest")


def _added_tokens(added_tokens, vocabulary):
    """A dict from texts to AddedToken."""
    if not isinstance(added_tokens, list):
        raise ValueError(f"added_tokens is {added_tokens!r:.60}; it must be a list")
    added, next_id = {}, len(vocabulary)
    for token in added_tokens:
        text = token.get("content") if isinstance(token, dict) else None
        if not isinstance(text, str) or text in added or not is_id_table({text: token.get("id")}):
            raise ValueError(f"added_tokens has {token!r:.80}; each must have a unique content (text) and an id")
        if wrong := [flag for flag in FLAGS if token.get(flag) not in (None, False, True)]:
            value = token[wrong[0]]
            raise ValueError(f"{wrong[0]} of the added token {text!r} is {value!r:.60}; it must be true or false")
        token_id = vocabulary.get(text, next_id)  # Hugging Face's library ignores the id in the file
        if token["id"] != token_id:
            raise ValueError(f"the added token {text!r} has id {token['id']}; Hugging Face reads it as {token_id}")
        flags: dict[str, Any] = {flag: bool(token.get(flag)) for flag in FLAGS}
        added[text] = as_written_in_bytes(AddedToken(text, token_id, **flags))
        next_id = max(next_id, token_id + 1)
    return added


def _check_can_be_written(token: AddedToken, ignore_merges, ranks):
    """Refuse an added token that Hugging Face's library would decode as other bytes, or find in ordinary text."""
    written = as_written_in_bytes(replace(token, data=None))
    if token.to_bytes() != written.to_bytes():
        raise ValueError(
            f"tokenizer.json cannot express the special token {token.text!r}: it would be decoded as "
            f"{written.to_bytes()!r}; save it under another *.json name, in npllm's format"
        )
    if ignore_merges and written.data is not None and ranks.get(written.data) != token.id:
        raise ValueError(f"tokenizer.json cannot distinguish the special token {token.text!r} from ordinary text")


def _merges(merges):
    """The merges as pairs of byte strings; older files have "a b", newer ones ["a", "b"]."""
    if not isinstance(merges, list):
        raise ValueError(f"model.merges is {merges!r:.60}; it must be a list")
    if set(map(type, merges)) == {str} and set(map(str.count, merges, repeat(" "))) == {1}:
        parts = " ".join(merges).split(" ")  # all of them at once
    else:
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
        for pair in pairs:
            if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
                raise ValueError(f"model.merges has {pair!r:.60}; each must be two tokens")
        parts = list(chain.from_iterable(pairs))
    tokens = unicode_to_tokens(parts)
    return list(zip(tokens[::2], tokens[1::2]))


def _parts(merges):
    """The left parts, the right parts and the results of merges: three lists."""
    left, right = ([pair[side] for pair in merges] for side in (0, 1))
    return left, right, list(map(add, left, right))


def _unmerged(ranks, merges, ignore_merges):
    """The tokens that are never merged: those that no merge has as its result, and without `ignore_merges` all that
    the merges cannot produce. Raises ValueError unless the order of the merges gives the same ids as the ranks."""
    for tokens in _parts(merges):
        if not all(map(ranks.__contains__, tokens)):
            name = token_to_unicode(next(token for token in tokens if token not in ranks))
            raise ValueError(f"model.merges uses {name!r}, which is missing from model.vocab")
    if len(set(ranks.values())) != len(ranks):
        raise ValueError("model.vocab assigns one id to several tokens; every token needs its own")
    unmerged = frozenset(unreachable_tokens(ranks, merges))
    merged = {token: rank for token, rank in ranks.items() if token not in unmerged} if unmerged else ranks
    reachable = reachable_merges(merged)
    if reachable == merges:  # as in most files: one merge for each token, in the order of the ids
        return unmerged
    index = {pair: i for i, pair in enumerate(merges)}
    for left, right in reachable:
        if (left, right) not in index:
            pair = f"{token_to_unicode(left)!r} and {token_to_unicode(right)!r}"
            raise ValueError(f"model.merges does not merge {pair}; their ids require it")
    order = [index[pair] for pair in reachable]
    if order != sorted(order):
        raise ValueError("the ids of model.vocab do not increase in the order of model.merges")
    return unmerged if ignore_merges else unreachable_tokens(ranks, reachable)

"""Vocabularies in files: npllm's own JSON, the files of OpenAI, tiktoken and Hugging Face.

Every format says which byte strings are tokens; they differ in how bytes are written down.

    own JSON            a printable character for every byte (see `printable_bytes`): " the" is "Ġthe"
    OpenAI              the same, the tokens in encoder.json, the merges in vocab.bpe
    Hugging Face        the same, in one tokenizer.json (see `hugging_face_file`)
    tiktoken            base64 and the rank, a line a token
"""

import base64
import binascii
import json
from pathlib import Path

from npllm.tokenizers.byte_pair.bytes_to_unicode import (
    BYTE_ORDER,
    UNICODE_TO_BYTE,
    is_id_table,
    token_to_unicode,
    unicode_to_token,
)
from npllm.tokenizers.formats.hugging_face import from_tokenizer_json, is_tokenizer_json, to_tokenizer_json
from npllm.utils.files import atomic_write

FORMAT = "npllm byte pair encoding"


def save(path, tokenizer):
    """Write in the format that the name asks for: tokenizer.json, another *.json, *.tiktoken, or a folder."""
    path = Path(path)
    if path.name == "tokenizer.json":
        _write(path, json.dumps(to_tokenizer_json(tokenizer), ensure_ascii=False, indent=2))
    elif path.suffix == ".json":
        _save_json(path, tokenizer)
    elif path.suffix == ".tiktoken":
        _save_tiktoken(path, tokenizer)
    elif path.suffix == "" or path.is_dir():
        _save_openai(path, tokenizer)
    else:
        raise ValueError(f"path is {path}; it must end in .json or .tiktoken, or be a folder")


def load(path):
    """Read (ranks, pattern or None, special tokens) from a *.json of either kind, *.tiktoken, *.bpe or a folder."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if path.is_dir():
        return _load_openai(path)
    try:
        if path.suffix == ".json":
            return _load_json(path)
        if path.suffix == ".bpe":
            return ranks_from_merges(read_merges(path.read_text(encoding="utf-8"))), None, {}
        return _load_tiktoken(path), None, {}
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not a vocabulary in the format of its name: {error}") from None


def read_merges(text):
    """The merges of a vocab.bpe as pairs of byte strings: a line each, after a line with the version."""
    merges, known = [], {character: bytes([byte]) for character, byte in UNICODE_TO_BYTE.items()}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        parts = line.split(" ")
        if len(parts) != 2:
            raise ValueError(f"line {number} of the merges is {line!r}; it must be two tokens with a space between")
        left, right = parts
        try:  # as it should be: both have come about before
            merge = known[left], known[right]
        except KeyError:
            merge = unicode_to_token(left), unicode_to_token(right)
        known[left + right] = merge[0] + merge[1]
        merges.append(merge)
    return merges


def ranks_from_merges(merges):
    """The ids of GPT-2's kind: the bytes in its order, then the result of every merge."""
    tokens = [bytes([byte]) for byte in BYTE_ORDER] + [left + right for left, right in merges]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    if len(ranks) != len(tokens):
        twice = next(token for rank, token in enumerate(tokens) if ranks[token] != rank)
        raise ValueError(f"two merges make {token_to_unicode(twice)!r}; every token must come from one")
    return ranks


def _save_json(path, tokenizer):
    content = {
        "format": FORMAT,
        "version": 1,
        "pattern": tokenizer.pattern,
        "special_tokens": tokenizer.special_tokens,
        "ranks": {token_to_unicode(token): rank for token, rank in tokenizer.ranks.items()},
    }
    _write(path, json.dumps(content, ensure_ascii=False, indent=1))


def _load_json(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    if is_tokenizer_json(content):
        return _load_tokenizer_json(path, content)
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != 1:
        hint = " (for OpenAI's files give the folder)" if path.name == "encoder.json" else ""
        raise ValueError(f'{path} does not say "format": "{FORMAT}", "version": 1{hint}')
    ranks, pattern, special_tokens = (content.get(key) for key in ("ranks", "pattern", "special_tokens"))
    if not (isinstance(pattern, str) and is_id_table(ranks) and is_id_table(special_tokens)):
        raise ValueError(f"{path} must have a pattern (text), ranks and special_tokens (texts with their ids)")
    return {unicode_to_token(token): rank for token, rank in ranks.items()}, pattern, special_tokens


def _load_tokenizer_json(path, content):
    try:
        return from_tokenizer_json(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _save_openai(folder, tokenizer):
    encoder = {token_to_unicode(token): rank for token, rank in tokenizer.ranks.items()}
    if both := sorted(encoder.keys() & tokenizer.special_tokens.keys()):
        raise ValueError(f"OpenAI's format cannot tell the special token {both[0]!r} from a token; save it as *.json")
    merges = (f"{token_to_unicode(left)} {token_to_unicode(right)}" for left, right in tokenizer.merges())
    lines = ["#version: 0.2", *merges]
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "vocab.bpe") as file, atomic_write(folder / "encoder.json") as ids:
        file.write(("\n".join(lines) + "\n").encode())
        ids.write(json.dumps(encoder | tokenizer.special_tokens).encode())


def _load_openai(folder):
    for name in ("encoder.json", "vocab.bpe"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"there is no {name} in {folder}; OpenAI's format is encoder.json and vocab.bpe")
    try:
        encoder = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        merges = read_merges((folder / "vocab.bpe").read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{folder} does not hold OpenAI's encoder.json and vocab.bpe: {error}") from None
    if not is_id_table(encoder):
        raise ValueError(f"{folder / 'encoder.json'} must be a table from tokens to ids")
    merged = [left + right for left, right in merges]
    tokens = list(ranks_from_merges(merges))
    printable = [token_to_unicode(token) for token in tokens]
    if missing := [name for name in printable if name not in encoder]:
        raise ValueError(f"{folder}: {missing[0]!r} comes from vocab.bpe and has no id in encoder.json")
    ranks = {token: encoder.pop(name) for token, name in zip(tokens, printable)}
    in_order = [ranks[token] for token in merged]
    if in_order != sorted(in_order):
        raise ValueError(f"{folder}: the ids of encoder.json do not rise with the merges of vocab.bpe")
    return ranks, None, encoder  # what is neither a byte nor a merge is special


def _save_tiktoken(path, tokenizer):
    ranks = dict(sorted(tokenizer.ranks.items(), key=lambda item: item[1]))
    _write(path, _encode_tiktoken(ranks).decode())


def _encode_tiktoken(ranks):
    encode = binascii.b2a_base64
    return b"".join([b"%b %d\n" % (encode(token, newline=False), rank) for token, rank in ranks.items()])


def _load_tiktoken(path):
    content = path.read_bytes()
    try:
        fields = content.split()
        ranks = dict(zip(map(binascii.a2b_base64, fields[::2]), map(int, fields[1::2])))
        if _encode_tiktoken(ranks) == content:  # as it should be: all lines at once
            return ranks
    except ValueError:
        pass  # line by line, it will be found which one is wrong
    return _load_line_by_line(path, content)


def _load_line_by_line(path, content):
    ranks = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line:
            continue
        try:
            encoded, rank = line.split()
            token, rank = base64.b64decode(encoded, validate=True), int(rank)
        except ValueError:
            raise ValueError(
                f"line {number} of {path} is {line[:50]!r}; it must be base64, a space and a rank"
            ) from None
        if token in ranks:
            raise ValueError(f"line {number} of {path} has a token that came before; every token must have one rank")
        ranks[token] = rank
    return ranks


def _write(path, text):
    with atomic_write(path) as file:
        file.write(text.encode())

"""OpenAI's format for GPT-2, a folder with two files. Hugging Face gives the same files other names.

    encoder.json, vocab.json    an object from tokens, in GPT-2's alphabet (see `bytes_to_unicode`), to ids
    vocab.bpe, merges.txt       the merges, one on each line: "Ġ t"

The folder holds the merges and the special tokens, but not the pattern.
"""

import json
from pathlib import Path

from npllm.tokenizers.byte_pair.bytes_to_unicode import (
    BYTE_ORDER,
    BYTE_TO_UNICODE,
    UNICODE_TO_BYTE,
    token_to_unicode,
    unicode_to_token,
)
from npllm.tokenizers.formats.npllm_json import is_id_table
from npllm.tokenizers.formats.reading import parse_json, read_vocabulary_text, reading_vocabulary
from npllm.utils.file_errors import FileError
from npllm.utils.files import atomic_write

PAIRS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
PAIR_NAMES = " or ".join(" and ".join(names) for names in PAIRS)


def save_openai(folder: Path, tokenizer) -> None:
    """Write both files for a BPETokenizer; raises ValueError if a special token has the spelling of a token."""
    encoder = {token_to_unicode(token): rank for token, rank in tokenizer.ranks.items()}
    if both := sorted(encoder.keys() & tokenizer.special_tokens.keys()):
        raise ValueError(
            f"OpenAI's format cannot distinguish the special token {both[0]!r} from a token; save it as *.json"
        )
    merges = (f"{token_to_unicode(left)} {token_to_unicode(right)}" for left, right in tokenizer.merges())
    lines = ["#version: 0.2", *merges]
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "vocab.bpe") as merges_file, atomic_write(folder / "encoder.json") as encoder_file:
        merges_file.write(("\n".join(lines) + "\n").encode())
        encoder_file.write(json.dumps(encoder | tokenizer.special_tokens).encode())


def load_openai(path: Path) -> tuple[dict[bytes, int], dict[str, int]]:
    """(ranks, special tokens) of a folder with one of PAIRS, or of one of these files, whose other file is beside it.

    Entries of the first file that are neither bytes nor merges are special tokens.
    """
    vocabulary, merges_file = find_pair(path)
    encoder = parse_json(vocabulary)
    with reading_vocabulary(merges_file):
        merges = read_merges(read_vocabulary_text(merges_file))
        by_merges = ranks_from_merges(merges)
    if not is_id_table(encoder):
        raise FileError(vocabulary, "must be an object from tokens to ids")
    _check_endings(encoder, vocabulary)
    tokens = [token for token in by_merges if len(token) > 1 or BYTE_TO_UNICODE[token[0]] in encoder]
    spellings = [token_to_unicode(token) for token in tokens]
    if missing := [spelling for spelling in spellings if spelling not in encoder]:
        raise FileError(merges_file, f"has the token {missing[0]!r}, which has no id in {vocabulary.name}")
    ranks = {token: encoder.pop(spelling) for token, spelling in zip(tokens, spellings)}
    in_order = [ranks[left + right] for left, right in merges]
    if in_order != sorted(in_order):
        raise FileError(vocabulary, f"has ids that do not increase in the order of the merges of {merges_file.name}")
    _check_complete(ranks, encoder, merges_file)
    return ranks, encoder


def find_pair(path: Path) -> tuple[Path, Path]:
    """The two files of a folder, or a file and the one that belongs to it. Raises FileNotFoundError without them."""
    folder = path if path.is_dir() else path.parent
    for names in PAIRS:
        if all((folder / name).is_file() for name in names) and (path.is_dir() or path.name in names):
            return folder / names[0], folder / names[1]
    for one, other in (*PAIRS, *(names[::-1] for names in PAIRS)):
        if (folder / one).is_file() and (path.is_dir() or path.name == one):
            raise FileNotFoundError(f"there is no {other} in {folder}; {one} needs it: the two are one vocabulary")
    raise FileNotFoundError(f"there is no vocabulary in {folder}; it must have {PAIR_NAMES}")


def _check_complete(ranks, special_tokens, merges_file):
    """Raise FileError if a token has no merge although it must have one: the file of the merges is truncated.

    A special token has an id before or after those of the merges. The first of the missing merges joins two tokens.
    """
    merged = [rank for token, rank in ranks.items() if len(token) > 1]
    first, last = min(merged, default=0), max(merged, default=-1)
    for text in sorted(special_tokens, key=special_tokens.__getitem__):
        among = first < special_tokens[text] < last
        if not UNICODE_TO_BYTE.keys() >= set(text):
            continue
        token = unicode_to_token(text)
        parts = ((token[:i], token[i:]) for i in range(1, len(token)))
        joins = special_tokens[text] > last and any(left in ranks and right in ranks for left, right in parts)
        if among or joins:
            raise FileError(merges_file, f"has no merge for the token {text!r}; lines are missing")


def _check_endings(encoder, vocabulary):
    """Refuse CLIP's kind of vocabulary, in which </w> marks the end of a word."""
    if sum(token.endswith("</w>") for token in encoder) > 1:
        raise FileError(vocabulary, "marks ends of words with </w>, as CLIP does; npllm can read byte-level tokens")


def read_merges(text: str) -> list[tuple[bytes, bytes]]:
    """The merges of a vocab.bpe, pairs of byte strings. The first line may give the version."""
    merges, known = [], {character: bytes([byte]) for character, byte in UNICODE_TO_BYTE.items()}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        parts = line.split(" ")
        if len(parts) != 2:
            raise ValueError(f"line {number} of the merges is {line!r}; it must be two tokens with a space between")
        left, right = parts
        try:  # normally both are bytes or the results of earlier lines
            merge = known[left], known[right]
        except KeyError:
            merge = unicode_to_token(left), unicode_to_token(right)
        known[left + right] = merge[0] + merge[1]
        merges.append(merge)
    return merges


def ranks_from_merges(merges: list[tuple[bytes, bytes]]) -> dict[bytes, int]:
    """The ids as GPT-2 assigns them: the bytes in BYTE_ORDER, then the result of every merge."""
    tokens = [bytes([byte]) for byte in BYTE_ORDER] + [left + right for left, right in merges]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    if len(ranks) != len(tokens):
        repeated = next(token for rank, token in enumerate(tokens) if ranks[token] != rank)
        raise ValueError(f"two merges make {token_to_unicode(repeated)!r}; every token must come from one merge")
    return ranks

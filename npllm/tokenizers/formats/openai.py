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
from npllm.tokenizers.formats.file_kind import parse_json
from npllm.tokenizers.formats.npllm_json import is_id_table
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
    try:
        merges = read_merges(merges_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{merges_file}: {error}") from None
    if not is_id_table(encoder):
        raise ValueError(f"{vocabulary} must be an object from tokens to ids")
    _check_endings(encoder, vocabulary)
    tokens = [token for token in ranks_from_merges(merges) if len(token) > 1 or BYTE_TO_UNICODE[token[0]] in encoder]
    spellings = [token_to_unicode(token) for token in tokens]
    if missing := [spelling for spelling in spellings if spelling not in encoder]:
        raise ValueError(f"{merges_file}: {missing[0]!r} has no id in {vocabulary.name}")
    ranks = {token: encoder.pop(spelling) for token, spelling in zip(tokens, spellings)}
    in_order = [ranks[left + right] for left, right in merges]
    if in_order != sorted(in_order):
        raise ValueError(f"the ids of {vocabulary} do not increase in the order of the merges of {merges_file.name}")
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


def _check_endings(encoder, vocabulary):
    """Refuse CLIP's kind of vocabulary, in which </w> marks the end of a word."""
    if sum(token.endswith("</w>") for token in encoder) > 1:
        raise ValueError(f"{vocabulary} marks ends of words with </w>, as CLIP does; npllm can read byte-level tokens")


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

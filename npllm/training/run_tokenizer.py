"""The tokenizer of a run, in the run's folder, so that the run needs no other file.

vocabulary.json    npllm's own format, for characters and for byte pair encoding
tokenizer.json     Hugging Face's format, for a published tokenizer: a copy, with the files that belong to it
"""

import json
from pathlib import Path

from npllm.models.saving import copy_tokenizer, tokenizer_folder
from npllm.tokenizers import characters
from npllm.tokenizers.base import Tokenizer
from npllm.tokenizers.bpe import BPETokenizer
from npllm.tokenizers.characters import CharacterTokenizer
from npllm.tokenizers.formats import npllm_json

VOCABULARY, TOKENIZER = "vocabulary.json", "tokenizer.json"
OWN: dict[str, type[CharacterTokenizer] | type[BPETokenizer]] = {
    characters.FORMAT: CharacterTokenizer,
    npllm_json.FORMAT: BPETokenizer,
}


def save_run_tokenizer(folder: Path, tokenizer: Tokenizer, path: str | Path | None = None) -> None:
    """Write the tokenizer into the folder of a run; `path` is the file or folder that it was read from."""
    source = tokenizer_folder(path)
    if source is not None and not (source / VOCABULARY).is_file():
        copy_tokenizer(source, folder)
        return
    try:
        tokenizer.save(folder / VOCABULARY)
    except ValueError:  # npllm's format does not have everything that a published tokenizer may have
        tokenizer.save(folder / TOKENIZER)


def load_run_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a run; raises FileNotFoundError, or ValueError that names the file."""
    if (folder / VOCABULARY).is_file() or not (folder / TOKENIZER).is_file():
        return load_vocabulary(folder / VOCABULARY)
    return BPETokenizer.load(folder / TOKENIZER)


def load_vocabulary(path: str | Path) -> CharacterTokenizer | BPETokenizer:
    """The tokenizer in a vocabulary.json, of the class that its "format" names; raises ValueError for any other."""
    try:
        kind = json.loads(Path(path).read_text(encoding="utf-8"))["format"]
        tokenizer = OWN[kind]
    except (ValueError, KeyError, TypeError) as error:
        formats = " or ".join(map(repr, OWN))
        raise ValueError(f"{path} is not a vocabulary file of npllm: its format must be {formats} ({error})") from None
    return tokenizer.load(path)

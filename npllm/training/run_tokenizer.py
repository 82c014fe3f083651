"""The tokenizer of a run, in the run's folder, so that the run needs no other file.

vocabulary.json    npllm's own format, for characters and for byte pair encoding
tokenizer.json     Hugging Face's format, for a published tokenizer: a copy, with the files that belong to it
"""

from pathlib import Path

from npllm.models.saving import copy_tokenizer, tokenizer_folder
from npllm.tokenizers import load_tokenizer
from npllm.tokenizers.base import Tokenizer

VOCABULARY, TOKENIZER = "vocabulary.json", "tokenizer.json"


def save_run_tokenizer(folder: Path, tokenizer: Tokenizer, path: str | Path | None = None) -> None:
    """Write the tokenizer into the folder of a run; `path` is the file or folder that it was read from."""
    source = tokenizer_folder(path)
    if path is None or source is not None and (source / VOCABULARY).is_file():  # npllm made it
        tokenizer.save(folder / VOCABULARY)
    elif source is not None:
        copy_tokenizer(source, folder)
    else:
        tokenizer.save(folder / TOKENIZER)


def run_tokenizer_file(folder: Path) -> Path:
    """The file of the tokenizer in the folder of a run."""
    return folder / (VOCABULARY if (folder / VOCABULARY).exists() else TOKENIZER)


def load_run_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a run; raises FileNotFoundError, or ValueError that names the file."""
    return load_tokenizer(run_tokenizer_file(folder))

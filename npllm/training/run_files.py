"""The hashes of a run's tokenizer and token files, in run.json: files of another run are refused.

{"train.tokens": "9f86d0…", "validation.tokens": "60303a…", "vocabulary.json": "fd61a0…"}

A token file has a SHA-256 in its header, which `open_token_file` verifies, so it is not hashed again.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from npllm.batching.token_file import read_header
from npllm.training.run_tokenizer import run_tokenizer_file
from npllm.utils.file_errors import FileError
from npllm.utils.files import check_regular_file

TOKEN_FILES = ("train.tokens", "validation.tokens")


def file_hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file by name, in hexadecimal digits."""
    tokens = {name: read_header(folder / name).sha256 for name in TOKEN_FILES}
    path = run_tokenizer_file(folder)
    check_regular_file(path)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read())
    return {**tokens, path.name: digest.hexdigest()}


def check_files(folder: Path, recorded: Mapping[str, str]) -> None:
    """Raise FileError for a file with another hash than the one that run.json records."""
    for name, value in file_hashes(folder).items():
        if recorded.get(name) != value:
            raise FileError(
                folder / name,
                "does not belong to this run: it is not the file that run.json records",
                field="sha256", value=value, must_be=recorded.get(name),
            )  # fmt: skip

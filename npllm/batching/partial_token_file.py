"""Partial token files: write a token file so that an interrupted encoding can be resumed.

    text → [ids → partial file → token file] → windows → batches → …

Until the token file NAME is complete, there are two other files beside it:

    NAME.partial         the ids so far, with a header whose count is 0
    NAME.partial.json    the journal: number of ids, number of bytes of the text they encode, and their SHA-256

The ids are synced to disk before the journal is replaced, atomically. So after a power loss the journal is true; ids
beyond its count are encoded again. At the end the count is written into the header, the partial file is renamed to
NAME, and the journal is removed. An existing file NAME is unchanged until then.

A third file, NAME.npllm-lock, makes a second process that writes the same file wait.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npllm.batching.token_file import HEADER, id_bytes, id_dtype, pack_header
from npllm.utils.files import atomic_write, file_lock

FORMAT, VERSION = "npllm partial token file", 2
SETTINGS = {  # keys of the settings in a journal → what they are called in an error message
    "vocabulary_sha256": "vocabulary",
    "pattern": "pattern",
    "special_tokens": "set of special tokens",
    "special": "choice for special tokens",
}


class PartialPaths(NamedTuple):
    """The token file and the files beside it while it is written."""

    token_file: Path
    partial: Path
    journal: Path
    lock: Path


def partial_paths(path: str | Path) -> PartialPaths:
    """The PartialPaths of a token file."""
    path = Path(path)
    return PartialPaths(*(path.with_name(path.name + end) for end in ("", ".partial", ".partial.json", ".npllm-lock")))


@contextmanager
def open_partial_token_file(
    path: str | Path, vocab_size: int, settings: dict[str, Any], overwrite: bool = False
) -> Iterator["PartialTokenFile"]:
    """Open a PartialTokenFile to append ids to, at the state of an interrupted one if there is one.

    `settings` is a dict of everything besides the text that determines the ids, with keys of SETTINGS and values that
    JSON can hold. Every setting of the interrupted file must be equal. If nothing was saved, no file is left.

    Raises FileExistsError if `path` exists and `overwrite` is false, and for a partial file without a journal. Raises
    ValueError for a partial file with other settings or a damaged journal.
    """
    path = Path(path).resolve()
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; it must be the name of a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into")
    with file_lock(partial_paths(path).lock):
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} already exists; choose another name, or overwrite it (--overwrite)")
        file = PartialTokenFile(path, vocab_size, settings)
        try:
            yield file
        finally:
            file.close()


class PartialTokenFile:
    """The ids so far: `count` ids encode the first `num_bytes` bytes of a text with this `sha256` (None at first)."""

    def __init__(self, path: Path, vocab_size: int, settings: dict[str, Any]):
        self.paths, self.vocab_size, self.settings = partial_paths(path), vocab_size, settings
        self.count, self.num_bytes, self.sha256 = 0, 0, None
        if self.paths.journal.exists():
            self._load_journal()
        elif self.paths.partial.exists():
            raise FileExistsError(
                f"{self.paths.partial} exists without {self.paths.journal.name}; rename it or delete it"
            )
        end = HEADER.size + self.count * id_dtype(vocab_size).itemsize
        if self.num_bytes:
            self._check_size(end)
            self._file = open(self.paths.partial, "r+b")  # noqa: SIM115
            self._file.seek(end)
        else:
            self._save_journal()
            self._file = open(self.paths.partial, "wb")  # noqa: SIM115
            self._file.write(pack_header(0, vocab_size))

    def append(self, ids: np.ndarray) -> None:
        """Append an array of ids."""
        self._file.write(id_bytes(ids, self.vocab_size, self.count))
        self.count += len(ids)

    def save(self, num_bytes: int, sha256: str) -> None:
        """Record that the ids so far encode the first `num_bytes` bytes of the text; a resumed encoding starts here."""
        self._sync()
        self.num_bytes, self.sha256 = num_bytes, sha256
        self._save_journal()

    def finish(self) -> None:
        """Complete the header and rename the partial file to the token file."""
        self._file.truncate()  # an interrupted encoding may have written more ids than its journal counts
        self._file.seek(0)
        self._file.write(pack_header(self.count, self.vocab_size))
        self._sync()
        self._file.close()
        if self.paths.token_file.exists():
            shutil.copymode(self.paths.token_file, self.paths.partial)
        os.replace(self.paths.partial, self.paths.token_file)
        self.paths.journal.unlink()

    def close(self) -> None:
        """Close the file; remove it and the journal if nothing was saved."""
        try:
            self._file.close()
        finally:
            if not self.num_bytes:
                self.paths.partial.unlink(missing_ok=True)
                self.paths.journal.unlink(missing_ok=True)

    def advice(self) -> str:
        """How to get rid of a partial file that cannot be continued."""
        return f"delete {self.paths.partial.name} and {self.paths.journal.name} to start again"

    def _load_journal(self):
        journal, partial = self.paths.journal, self.paths.partial
        try:
            content = json.loads(journal.read_text(encoding="utf-8"))
            if content["format"] != FORMAT or content["version"] != VERSION:
                raise ValueError(f"its format is not {FORMAT!r}, version {VERSION}")
            count, num_bytes, sha256, settings = (content[key] for key in ("count", "num_bytes", "sha256", "settings"))
            if not (
                type(count) is type(num_bytes) is int and min(count, num_bytes) >= 0 and isinstance(settings, dict)
            ):
                raise ValueError(f"it has count {count!r}, num_bytes {num_bytes!r} and settings {settings!r:.40}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{journal} is not the journal of a token file: {error}; {self.advice()}") from None
        if not num_bytes or not partial.exists():
            return  # nothing was saved, or the token file is complete and only the journal is left
        for key, value in settings.items():
            if self.settings.get(key) != value:
                what = SETTINGS.get(key, key)
                raise ValueError(f"{partial} was written with another {what}: use the same, or {self.advice()}")
        self.count, self.num_bytes, self.sha256 = count, num_bytes, sha256

    def _check_size(self, end):
        size = self.paths.partial.stat().st_size
        if size < end:
            raise ValueError(
                f"{self.paths.partial} has {size} bytes; by its journal it must have at least {end}; {self.advice()}"
            )

    def _save_journal(self):
        content = {
            "format": FORMAT,
            "version": VERSION,
            "count": self.count,
            "num_bytes": self.num_bytes,
            "sha256": self.sha256,
            "settings": self.settings,
        }
        with atomic_write(self.paths.journal) as file:
            file.write(json.dumps(content, indent=1).encode())

    def _sync(self):
        self._file.flush()
        os.fsync(self._file.fileno())

"""Partial token files: write a token file so that an interrupted encoding can be resumed.

    text → [ids → partial file → token file] → windows → batches → …

Until the token file NAME is complete, there are two other files beside it:

    NAME.partial         64 bytes for the header, then the ids so far
    NAME.partial.json    the journal: number of ids and their SHA-256, number of bytes of the text and their SHA-256

The ids are synced to disk before the journal is replaced, atomically. So after a power loss the journal is true; ids
beyond its count are encoded again. Both checksums are verified before an encoding is resumed, and the journal has one
of itself (see `checked_json`). At the end the header is written, the partial file is renamed to NAME, and the journal
is removed. An existing file NAME is unchanged until then.

A third file, NAME.npllm-lock, makes a second process that writes the same file wait.

Another user may be allowed to write into the folder. So neither file is opened through a symbolic link, which could
point to a file that only this user may write.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npllm.batching.token_file import HEADER_SIZE, id_bytes, id_dtype, pack_header
from npllm.utils.checked_json import read_checked_json, write_checked_json
from npllm.utils.fields import REQUIRED, optional, read_fields, size, table, text
from npllm.utils.file_errors import FileError
from npllm.utils.files import check_regular_file, file_lock

FORMAT, VERSION = "npllm partial token file", 3
JOURNAL = {
    "count": size(REQUIRED, 0, 1 << 62),
    "ids_sha256": text(),
    "num_bytes": size(REQUIRED, 0, 1 << 62),
    "text_sha256": optional(text()),
    "settings": table(REQUIRED),
}
CHUNK = 1 << 20  # bytes that are hashed at once
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
    if path.exists():  # the complete file is renamed to this path, which would replace a device such as /dev/null
        check_regular_file(path)
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
    """The ids so far: `count` ids encode the first `num_bytes` bytes of a text with this `text_sha256`.

    `text_sha256` is None at first. Methods raise OSError, and FileError for a file that cannot be continued.
    """

    def __init__(self, path: Path, vocab_size: int, settings: dict[str, Any]):
        self.paths, self.vocab_size, self.settings = partial_paths(path), vocab_size, settings
        self.count, self.num_bytes, self.text_sha256 = 0, 0, None
        self._sha256 = hashlib.sha256()
        journal, partial = self.paths.journal, self.paths.partial
        for written in (journal, partial):
            self._check_kind(written)
        saved = self._read_journal() if journal.exists() else None
        if saved is None and partial.exists():
            raise FileExistsError(f"{partial} exists without {journal.name}; rename it or delete it")
        if saved and saved["num_bytes"] and partial.exists():  # else nothing was saved, or the token file is complete
            self._check_settings(saved["settings"])
            self._file = open(partial, "r+b", opener=_open_no_link)  # noqa: SIM115
            self._restore(saved)
        else:
            partial.unlink(missing_ok=True)
            self._save_journal()
            self._file = open(partial, "xb")  # noqa: SIM115
            self._file.write(bytes(HEADER_SIZE))

    def append(self, ids: np.ndarray) -> None:
        """Append an array of ids."""
        data = id_bytes(ids, self.vocab_size, self.count)
        self._file.write(data)
        self._sha256.update(data)
        self.count += len(ids)

    def save(self, num_bytes: int, text_sha256: str) -> None:
        """Record that the ids so far encode the first `num_bytes` bytes of the text; a resumed encoding starts here."""
        self._sync()
        self.num_bytes, self.text_sha256 = num_bytes, text_sha256
        self._save_journal()

    def finish(self) -> None:
        """Write the header and rename the partial file to the token file."""
        self._file.truncate()  # an interrupted encoding may have written more ids than its journal counts
        self._file.seek(0)
        self._file.write(pack_header(self.count, self.vocab_size, self._sha256))
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

    def _check_kind(self, path):
        if path.is_symlink() or path.exists() and not path.is_file():
            kind = "a symbolic link" if path.is_symlink() else "a folder, a pipe or a device"
            raise FileError(path, f"is {kind}; it must be a file that npllm bpe encode wrote: {self.advice()}")

    def _read_journal(self):
        journal = self.paths.journal
        try:
            saved = read_fields(journal, read_checked_json(journal, FORMAT, VERSION), JOURNAL)
        except FileError as error:
            raise FileError(
                journal, f"{error.problem}; {self.advice()}",
                field=error.field, value=error.value, must_be=error.must_be,
            ) from None  # fmt: skip
        return saved

    def _check_settings(self, settings):
        own = self.settings if "special" in settings else self.settings | {"special": None}  # none so far
        for key in dict.fromkeys([*SETTINGS, *settings, *own]):
            if settings.get(key) != own.get(key):
                raise FileError(
                    self.paths.partial,
                    f"was written with another {SETTINGS.get(key, key)}: use the same, or {self.advice()}",
                    field=key, value=settings.get(key),
                )  # fmt: skip

    def _restore(self, saved):
        """Take over the state of the journal, and go to the end of the ids that it counts."""
        partial, remaining = self.paths.partial, saved["count"] * id_dtype(self.vocab_size).itemsize
        end, num_bytes = HEADER_SIZE + remaining, os.fstat(self._file.fileno()).st_size
        if num_bytes < end:
            problem = f"has {num_bytes} bytes; by its journal it must have at least {end}"
        else:
            self._file.seek(HEADER_SIZE)  # the header is written anew at the end
            while remaining and (chunk := self._file.read(min(remaining, CHUNK))):
                self._sha256.update(chunk)
                remaining -= len(chunk)
            intact = self._sha256.hexdigest() == saved["ids_sha256"]
            problem = None if intact else "is damaged: its ids do not have the checksum that its journal records"
        if problem:
            self._file.close()
            raise FileError(partial, f"{problem}; {self.advice()}")
        self._file.seek(end)
        self.count, self.num_bytes, self.text_sha256 = saved["count"], saved["num_bytes"], saved["text_sha256"]

    def _save_journal(self):
        content = {
            "count": self.count,
            "ids_sha256": self._sha256.hexdigest(),
            "num_bytes": self.num_bytes,
            "text_sha256": self.text_sha256,
            "settings": self.settings,
        }
        self._check_kind(self.paths.journal)
        write_checked_json(self.paths.journal, FORMAT, VERSION, content)

    def _sync(self):
        self._file.flush()
        os.fsync(self._file.fileno())


def _open_no_link(path, flags):
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))  # Windows has no such flag

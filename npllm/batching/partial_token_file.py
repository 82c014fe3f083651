"""A token file in the making: whatever stops the work, what was written before is not written again.

    text → [ids → partial file → token file] → windows → batches → …

Beside the token file NAME stand, until it is complete, two others:

    NAME.partial         a token file whose header does not count its ids yet
    NAME.partial.json    a journal: so many ids, made of so many bytes of the text, which had this SHA-256

The ids go to the disk first, then the journal says so, written whole or not at all. So after a power cut the journal is
true, and what the partial file has beyond it is made again. At the end the header gets its count, the
partial file becomes NAME in one step, and the journal goes. Until then a file NAME from before stays as it is.

A third one, NAME.npllm-lock, keeps a second process waiting that would write the same file.
"""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from npllm.batching.token_file import HEADER, header, id_bytes, id_type
from npllm.utils.files import atomic_write, file_lock

FORMAT, VERSION = "npllm partial token file", 1


@contextmanager
def resumable_token_file(path, vocab_size, recipe, overwrite=False):
    """A PartialTokenFile to add ids to, the one that was left if there is one; `finish` makes it the file `path`.

    `recipe` is a dict of what else decides about the ids (the vocabulary, for instance), of values that JSON has. To go
    on, all that is in the recipe with which the file was begun must be in this one. Where nothing was saved, nothing is
    left behind.

    Raises FileExistsError if `path` is there and not to be overwritten, because a whole file is not to be lost by a
    slip of the keyboard; and for a partial file without a journal, which somebody else has put there. Raises ValueError
    for one that was begun with another recipe or is damaged.
    """
    path = Path(path).resolve()
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; it must be the name of a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into")
    with file_lock(names_beside(path)[-1]):
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} is there already; take another name, or overwrite it (--overwrite)")
        file = PartialTokenFile(path, vocab_size, recipe)
        try:
            yield file
        finally:
            file.close()


def names_beside(path):
    """The token file, the partial file, the journal and the lock file."""
    path = Path(path)
    return [path.with_name(path.name + end) for end in ("", ".partial", ".partial.json", ".npllm-lock")]


class PartialTokenFile:
    """The ids so far (`count`), made of the first `read` bytes of a text, whose SHA-256 is `sha256` (None at first)."""

    def __init__(self, path, vocab_size, recipe):
        self.path, self.vocab_size, self.recipe = path, vocab_size, recipe
        _, self.partial, self.journal, _ = names_beside(path)
        self.count, self.read, self.sha256 = 0, 0, None
        if self.journal.exists():
            self._load_journal()
        elif self.partial.exists():
            raise FileExistsError(f"{self.partial} is there without {self.journal.name}; rename it or delete it")
        end = HEADER.size + self.count * id_type(vocab_size).itemsize
        if self.read:
            self._must_have(end)
            self._file = open(self.partial, "r+b")  # noqa: SIM115
            self._file.seek(end)
        else:
            self._save_journal()
            self._file = open(self.partial, "wb")  # noqa: SIM115
            self._file.write(header(0, vocab_size))

    def add(self, ids):
        """Write an array of ids behind those that are there."""
        self._file.write(id_bytes(ids, self.vocab_size, self.count))
        self.count += len(ids)

    def save(self, read, sha256):
        """Note that the ids up to here are made of the first `read` bytes: from here it will go on."""
        self._to_the_disk()
        self.read, self.sha256 = read, sha256
        self._save_journal()

    def finish(self):
        """Make the partial file the token file."""
        self._file.truncate()  # what was written before and not noted may have been longer
        self._file.seek(0)
        self._file.write(header(self.count, self.vocab_size))
        self._to_the_disk()
        self._file.close()
        if self.path.exists():
            shutil.copymode(self.path, self.partial)
        os.replace(self.partial, self.path)
        self.journal.unlink()

    def close(self):
        """Leave the file for the next time, or take away what has nothing to go on with."""
        try:
            self._file.close()
        finally:
            if not self.read:
                self.partial.unlink(missing_ok=True)
                self.journal.unlink(missing_ok=True)

    def advice(self):
        """What to do with a partial file that is of no use."""
        return f"delete {self.partial.name} and {self.journal.name} to begin anew"

    def _load_journal(self):
        try:
            content = json.loads(self.journal.read_text(encoding="utf-8"))
            if content["format"] != FORMAT or content["version"] != VERSION:
                raise ValueError(f"it does not say {FORMAT!r}, version {VERSION}")
            count, read, sha256, recipe = (content[key] for key in ("count", "read", "sha256", "recipe"))
            if not (type(count) is type(read) is int and min(count, read) >= 0 and isinstance(recipe, dict)):
                raise ValueError(f"it has count {count!r}, read {read!r} and recipe {recipe!r:.40}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{self.journal} is not the journal of a token file: {error}; {self.advice()}") from None
        if not read or not self.partial.exists():
            return  # nothing was done, or it has become `path` and the journal was left: it begins anew
        differ = [name for name, value in recipe.items() if self.recipe.get(name) != value]
        if differ:
            raise ValueError(f"{self.partial} was begun with another {differ[0]}: go on with that, or {self.advice()}")
        self.count, self.read, self.sha256 = count, read, sha256

    def _must_have(self, end):
        size = self.partial.stat().st_size
        if size < end:
            raise ValueError(f"{self.partial} has {size} bytes, but its journal promises {end}; {self.advice()}")

    def _save_journal(self):
        content = {"format": FORMAT, "version": VERSION, "count": self.count, "read": self.read, "sha256": self.sha256}
        with atomic_write(self.journal) as file:
            file.write(json.dumps(content | {"recipe": self.recipe}, indent=1).encode())

    def _to_the_disk(self):
        self._file.flush()
        os.fsync(self._file.fileno())

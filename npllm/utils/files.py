"""Atomic writes, file locks, and the folder of the files that ship with npllm.

    temporary file in the same folder → write → fsync → [rename over the old file]

A rename within one file system is atomic: a process that opens the file reads either the complete old content or the
complete new one.

POSIX.1-2017, System Interfaces, rename.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def data_folder() -> Path:
    """The folder of the files that ship with npllm: npllm/data in an installed package, data/ in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "data"
    return installed if installed.is_dir() else package.parent / "data"


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary binary file for writing, and rename it to `path` at the end of the `with` block.

    with atomic_write("weights.bin") as file:
        file.write(content)

    After an exception (a full disk, Ctrl-C) the temporary file is removed and `path` is unchanged. A new file has the
    permissions that `open` would give it, a replaced file keeps its own. If `path` is a symbolic link, the file that it
    points to is replaced.
    """
    path = Path(path).resolve()
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; it must be the name of a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into")
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # without it, the rename may reach the disk before the content
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException:  # KeyboardInterrupt too
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink()
        raise


@contextmanager
def file_lock(path: str | Path) -> Iterator[None]:
    """Hold the lock file `path` during the `with` block; wait until no other process or thread holds it.

    The operating system releases the lock of a process that ends. The file is empty, and removed at the end. Raises
    FileExistsError if there is a file with content at `path`: it is not a lock file.
    """
    from filelock import FileLock  # imported here because its import takes longer than that of npllm.utils

    path = Path(path)
    with suppress(FileNotFoundError):
        if path.stat().st_size:
            raise FileExistsError(f"{path} is not empty, so it is not a lock file; rename it or choose another name")
    with FileLock(path):
        try:
            yield
        finally:
            with suppress(OSError):  # Windows does not remove open files; an empty file left there does no harm
                path.unlink()  # while the lock is held: a waiting FileLock checks that its file still exists

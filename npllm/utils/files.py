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
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from npllm.utils.file_errors import FileError


def data_folder() -> Path:
    """The folder of the files that ship with npllm: npllm/data in an installed package, data/ in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "data"
    return installed if installed.is_dir() else package.parent / "data"


def check_regular_file(path: str | PathLike) -> None:
    """Raise FileNotFoundError, IsADirectoryError, or FileError for a pipe, a socket or a device.

    To open a pipe waits for a process that writes to it, and a device such as /dev/zero has no end.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; it must be a file")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():
        raise FileError(path, "is a pipe, a socket or a device; it must be a regular file")


def read_regular_file(path: str | PathLike, max_bytes: int) -> bytes:
    """The content of a file. Raises as `check_regular_file`, and FileError for one of more than `max_bytes` bytes."""
    check_regular_file(path)
    with open(path, "rb") as file:
        num_bytes = os.fstat(file.fileno()).st_size
        if num_bytes > max_bytes:
            raise FileError(path, f"has {num_bytes} bytes; it must have at most {max_bytes}")
        return file.read()


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

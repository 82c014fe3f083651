"""Atomic writes, file locks, and the folder of the files that ship with npllm.

    temporary file in the same folder → write → fsync → [rename over the old file] → fsync of the folder

A rename within one file system is atomic: a process that opens the file reads either the complete old content or the
complete new one.

POSIX.1-2017, System Interfaces, rename.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from npllm.utils.file_errors import FileError
from npllm.utils.temporary_files import open_temporary, remove_dead, temporary_path

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


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
    with naming_the_file(Path(path)), open(path, "rb") as file:
        num_bytes = os.fstat(file.fileno()).st_size
        if num_bytes > max_bytes:
            raise FileError(path, f"has {num_bytes} bytes; it must have at most {max_bytes}")
        return file.read()


@contextmanager
def atomic_write(path: str | PathLike, *, keep_as: str | PathLike | None = None) -> Iterator[BinaryIO]:
    """Open a temporary binary file for writing, and rename it to `path` at the end of the `with` block.

    with atomic_write("weights.bin") as file:
        file.write(content)

    After an exception (a full disk, Ctrl-C) the temporary file is removed and `path` is unchanged. A new file has the
    permissions that `open` would give it, a replaced file keeps its own. If `path` is a symbolic link, the file that it
    points to is replaced. A folder, a pipe or a device is refused as by `check_regular_file`. Temporary files that a
    killed process left in the folder are removed.

    keep_as   a path in the same folder: the replaced file is kept under this name. A complete file is at `path` at
              every moment.
    """
    path = Path(os.path.realpath(path))
    if path.is_symlink():  # links that point to each other
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if path.exists():  # a rename would replace a device such as /dev/null
        check_regular_file(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into")
    remove_dead(path.parent)
    with naming_the_file(path):
        temporary, file = open_temporary(path.parent, stat.S_IMODE(path.stat().st_mode) if path.exists() else None)
        try:
            with file:  # its lock is released after the rename
                yield file
                file.flush()
                os.fsync(file.fileno())  # without it, the rename may reach the disk before the content
                if os.name != "posix":
                    file.close()  # Windows does not rename open files
                if keep_as is not None and path.exists():
                    _link(path, Path(keep_as))
                os.replace(temporary, path)
            _sync_folder(path.parent)
        except BaseException:  # KeyboardInterrupt too
            with suppress(OSError):  # the first error is the one to report
                temporary.unlink()
            raise


def _link(path: Path, other: Path) -> None:
    """Give the file the name `other`, too, which may be that of another file; a copy where there are no hard links."""
    temporary = temporary_path(path.parent)
    try:
        os.link(path, temporary)
    except OSError:
        with atomic_write(other) as file, open(path, "rb") as source:
            shutil.copyfileobj(source, file)
        return
    os.replace(temporary, other)
    with suppress(OSError):
        temporary.unlink()  # a rename between two names of one file does nothing


def _sync_folder(folder: Path) -> None:
    """Write the folder's list of names to the disk: until then, a power cut can undo a rename."""
    with suppress(OSError):  # Windows, and some network file systems
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def naming_the_file(path: Path) -> Iterator[None]:
    """Add the path to an OSError of the disk that does not have one: "No space left on device" names no file."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in DISK_ERRORS:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextmanager
def file_lock(path: str | PathLike, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path` during the `with` block; wait until no other process or thread holds it.

    The operating system releases the lock of a process that ends. The file is empty, and removed at the end. Raises
    FileExistsError if there is a file with content at `path`: it is not a lock file. A folder, a pipe or a device is
    refused as by `check_regular_file`. With wait=False, raises
    BlockingIOError if the lock is held.
    """
    from filelock import FileLock, Timeout  # imported here because it takes longer than the import of npllm.utils

    path = Path(path)
    with suppress(FileNotFoundError):  # another process may remove it meanwhile
        check_regular_file(path)  # it is removed at the end, as a device such as /dev/null must not be
        if path.stat().st_size:
            raise FileExistsError(f"{path} is not empty, so it is not a lock file; rename it or choose another name")
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise BlockingIOError(f"{path} is locked by another process") from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows does not remove open files; an empty file left there does no harm
            path.unlink()  # while the lock is held: a waiting FileLock checks that its file still exists
        lock.release()

"""Temporary files and folders that are locked while they are written: those of dead processes are found and removed.

    .npllm-0123456789abcdef.tmp    beside the file or folder that it will become

A process holds the lock (flock) of its temporary file until it has renamed or removed it. The operating system
releases the lock when the process ends, however it ends: a temporary file that is not locked belongs to no process.
Unlike a process id in the name, this holds across restarts of the machine and between containers that share a folder.
Where a file system has no locks, no file is removed.
"""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = re.compile(r"\.npllm-[0-9a-f]{16}\.tmp")


def temporary_path(folder: Path) -> Path:
    """A new name for a temporary file: 64 random bits, so that no link can be prepared under it."""
    return folder / f".npllm-{secrets.token_hex(8)}.tmp"


def open_temporary(folder: Path, mode: int | None) -> tuple[Path, BinaryIO]:
    """(path, file): a new locked temporary file; `mode` is its permissions, None those that `open` gives."""
    while True:
        path = temporary_path(folder)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, 0o666 if mode is None else mode)
        file = os.fdopen(descriptor, "w+b")
        _lock(descriptor, wait=True)
        if fcntl is None or os.fstat(descriptor).st_nlink:  # else another process removed it before it was locked
            break
        file.close()
    if mode is not None and hasattr(os, "fchmod"):
        os.fchmod(descriptor, mode)  # the umask does not apply
    return path, file


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A new locked folder in `parent` for the `with` block; at the end it is removed, unless it was renamed."""
    remove_dead(parent)
    path, descriptor = _make_locked(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _make_locked(parent):
    while True:
        path = temporary_path(parent)
        path.mkdir()
        if fcntl is None:
            return path, None
        with suppress(FileNotFoundError):  # another process removed it before it was locked
            descriptor = os.open(path, os.O_RDONLY)
            _lock(descriptor, wait=True)
            if os.fstat(descriptor).st_nlink:
                return path, descriptor
            os.close(descriptor)


def remove_dead(folder: Path) -> None:
    """Remove the temporary files and folders in a folder that no living process writes."""
    if fcntl is None:
        return
    with suppress(OSError), os.scandir(folder) as entries:
        names = [entry.name for entry in entries if NAME.fullmatch(entry.name)]
        for name in names:
            with suppress(OSError):  # it was renamed or removed meanwhile, or belongs to another user
                _remove_if_unlocked(folder / name)


def _remove_if_unlocked(path):
    is_folder = path.is_dir() and not path.is_symlink()
    mode = os.O_RDONLY if is_folder else os.O_RDWR
    descriptor = os.open(path, mode | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not _lock(descriptor, wait=False):
            return
        if is_folder:
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(descriptor)


def _lock(descriptor, wait):
    """Lock an open file; return whether that was possible."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EACCES):
            return False
        raise
    return True


_BINARY = getattr(os, "O_BINARY", 0)

"""Read text files in UTF-8, with error messages that name the file and what is wrong with it.

A text may come from a pipe, such as a named one (mkfifo), /dev/stdin, or a shell's <(command). To open a pipe waits for
a process that writes to it, for ever if there is none. So it is opened without waiting; then reading tells whether
there is a writer. One that starts at the same time has a second to open the pipe.

POSIX.1-2017, System Interfaces, open and read (O_NONBLOCK).
"""

import os
import stat
import time
from pathlib import Path
from typing import BinaryIO

from npllm.utils.file_errors import FileError

CHUNK = 1 << 16  # the capacity of a pipe
PATIENCE = 1.0  # seconds to wait for a process that writes to a pipe


def read_text_file(path: str | Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark. Line endings stay as they are.

    The result is that of `open(path, encoding="utf-8-sig", newline="").read()`, so the ids of the text are those that
    `npllm bpe encode` writes for the file. Raises FileNotFoundError, IsADirectoryError, or FileError for a file that is
    empty, has only whitespace, is not text in UTF-8, or is not a regular file or a pipe with a writer.
    """
    file, content = open_text_file(path)
    try:
        with file:
            content += file.read(CHUNK)
            check_no_nul(path, content)  # before the rest: a sparse file may have any size
            content += file.read()
        check_no_nul(path, content)
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise utf8_error(path, error.start, content[error.start]) from error
    except MemoryError:
        raise FileError(path, "is larger than the memory; `npllm bpe encode` reads it in parts") from None
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise FileError(path, f"{'has only whitespace' if text else 'is empty'}; it must contain text")
    return text


def open_text_file(path: str | Path) -> tuple[BinaryIO, bytes]:
    """(binary file, bytes that were already read from it) for reading a text from a file or a pipe.

    Raises OSError, or FileError for a device, a socket, or a pipe to which no process writes.
    """
    check_text_file(path)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        first = b""
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            first = _first_of_pipe(path, descriptor)
        if hasattr(os, "O_NONBLOCK"):
            os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb"), first
    except BaseException:
        os.close(descriptor)
        raise


def _first_of_pipe(path, descriptor):
    """The bytes that are in a pipe; they may be none if there is a writer."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            first = os.read(descriptor, CHUNK)
        except BlockingIOError:  # there is a writer, which has not written yet
            return b""
        if first:
            return first
        if time.monotonic() > end:
            raise FileError(path, "is a pipe to which no process writes; it must contain text")
        time.sleep(0.01)


def check_text_file(path: str | Path) -> None:
    """Raise FileNotFoundError, IsADirectoryError, or FileError for a device or a socket. Nothing is opened."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; it must be a text file")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; it must be a text file")
    if not (path.is_file() or path.is_fifo()):
        raise FileError(path, "is a device or a socket; it must be a text file")


def check_no_nul(path: str | Path, content: bytes) -> None:
    """Raise FileError if there is a NUL byte: valid in UTF-8, but a sign of a binary file or of UTF-16."""
    if b"\0" in content:
        raise FileError(path, "is binary or UTF-16 (it has NUL bytes); it must be text in UTF-8")


def utf8_error(path: str | Path, position: int, byte: int) -> FileError:
    """The error for a file whose byte at `position`, counted from 0, is not valid UTF-8."""
    where = f"byte {position} is 0x{byte:02x}"
    return FileError(path, f"is binary or in another encoding ({where}); it must be text in UTF-8")

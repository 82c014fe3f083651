"""Standard output and standard error of a command: errors that name the stream, and no control characters of files.

A disk may be full, a pipe or a terminal closed, an encoding unable to hold a character; and a file name or a text may
contain escape sequences, which a terminal would execute.
"""

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from rich.console import Console
from rich.segment import Segment

from npllm.utils.terminal import printable


class PrintableConsole(Console):
    """A rich Console that prints control characters of a text as escape sequences, such as \\x1b; colours are kept."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, **options})

    def render(self, *arguments: Any, **options: Any) -> Iterable[Segment]:
        """The segments of a renderable, as of Console."""
        for segment in super().render(*arguments, **options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


@contextmanager
def standard_streams() -> Iterator[None]:
    """In the `with` block, sys.stdout and sys.stderr have these properties:

    A character that the encoding does not have becomes "?". An OSError has the name of the stream as its filename.
    Errors of standard error are ignored, because no message could be printed. A closed stream (`>&-`) is
    like /dev/null.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _stream(sys.stdout, "standard output"), _stream(sys.stderr, "standard error")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _NamedStream:
    """A text stream whose errors name it. After an error it has no output, and each `flush` raises the error again.

    (argparse, which prints --help, ignores errors.)
    """

    def __init__(self, stream: TextIO, name: str):
        self._stream, self._name = stream, name
        self._error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text; an error names the stream."""
        with self._named_errors():
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream; raise its first error, if there was one."""
        with self._named_errors():
            self._stream.flush()
        if self._error is not None:
            raise self._error

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._discard()
            if self._name != "standard error":
                self._error = OSError(error.errno or errno.EIO, error.strerror or str(error), self._name)
                raise self._error from None

    def _discard(self) -> None:
        """Let the text in the buffer, and all further text, go to /dev/null: Python flushes the stream when it ends."""
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


def _stream(stream: TextIO | None, name: str) -> Any:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")
    return _NamedStream(stream, name)

"""What readers of vocabulary files have in common: bytes of limited size, and one class of errors.

with reading_vocabulary(path):
    content = parse_json(path)
    …                            # a ValueError, or a field of another type → FileError of this file
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from npllm.utils.file_errors import FileError
from npllm.utils.files import read_regular_file

MAX_BYTES = 1 << 28  # of a vocabulary file; the largest published ones have 35 MB


@contextmanager
def reading_vocabulary(path: str | PathLike[str]) -> Iterator[None]:
    """In the `with` block, an error because of the content of a file becomes a FileError of this file."""
    try:
        yield
    except FileError:
        raise
    except RecursionError:
        raise FileError(path, "is damaged: it is nested too deeply") from None
    except ValueError as error:
        message = str(error)
        if message.startswith((f"{path} ", f"{path}: ")):
            raise FileError(path, message[len(str(path)) :].lstrip(": ")) from error
        raise FileError(path, f"is not a vocabulary that npllm can read: {message}") from error
    except (KeyError, TypeError, IndexError, OverflowError, AttributeError) as error:
        problem = f"is damaged: a field has another type than it must have ({type(error).__name__}: {error})"
        raise FileError(path, problem) from error


def read_vocabulary_bytes(path: str | Path) -> bytes:
    """The content of a vocabulary file. Raises OSError, or FileError for a pipe, a device or more than MAX_BYTES."""
    return read_regular_file(path, MAX_BYTES)


def read_vocabulary_text(path: str | Path) -> str:
    """The content of a vocabulary file as text, with line breaks \\n. Raises as `read_vocabulary_bytes`, and FileError
    for a text that is not UTF-8."""
    with reading_vocabulary(path):
        return read_vocabulary_bytes(path).decode("utf-8-sig").replace("\r\n", "\n")


def parse_json(path: str | Path) -> Any:
    """The content of a JSON file. Raises as `read_vocabulary_bytes`, and FileError for invalid JSON.

    An object with one name twice is refused: one of two ids of a token would be lost.
    """
    content = read_vocabulary_bytes(path)
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise FileError(path, "is not JSON that npllm can read: it is nested too deeply") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise FileError(path, f"is not valid JSON: {error}") from None


def _without_duplicates(pairs):
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {ascii(repeated):.60} is there more than once")
    return content

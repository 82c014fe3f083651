"""FileError: what every reader raises for a file whose content is not what it must be.

    try:
        model = from_pretrained(folder)
    except FileError as error:
        print(error)         # m/config.json has num_hidden_layers "2"; it must be an integer from 1 to 10000
        print(error.path, error.field, error.value, error.must_be)

A file that cannot be opened raises OSError, as everywhere in Python.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any


class FileError(ValueError):
    """The content of a file is not what it must be. The message is the path followed by the problem.

    path      of the file
    problem   a sentence without its subject, such as "is truncated: it has 7 bytes"
    field, value, must_be   of the (first) field that is the reason, where it is one; else None
    """

    def __init__(
        self, path: str | PathLike, problem: str, *, field: str | None = None, value: Any = None,
        must_be: str | None = None,
    ):  # fmt: skip
        super().__init__(f"{path} {problem}")
        self.path, self.problem, self.field, self.value, self.must_be = str(path), problem, field, value, must_be

    def __reduce__(self) -> tuple:
        """For pickle, which would call the constructor with the message alone."""
        return _restore, (type(self), self.path, self.problem, self.field, self.value, self.must_be)


def _restore(kind, path, problem, field, value, must_be):
    return kind(path, problem, field=field, value=value, must_be=must_be)


@contextmanager
def reading(path: str | PathLike) -> Iterator[None]:
    """In the `with` block, a ValueError that is not a FileError becomes a FileError of this file."""
    try:
        yield
    except FileError:
        raise
    except RecursionError:
        raise FileError(path, "is damaged: it is nested too deeply") from None
    except ValueError as error:
        raise FileError(path, f"is damaged: {error}") from error

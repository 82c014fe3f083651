"""Read text files in UTF-8, with error messages that name the file and what is wrong with it."""

from pathlib import Path


def read_text_file(path: str | Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark. Line endings stay as they are.

    The result is that of `open(path, encoding="utf-8-sig", newline="").read()`, so the ids of the text are those that
    `npllm bpe encode` writes for the file. Raises FileNotFoundError, IsADirectoryError, or
    ValueError for a file that is empty, has only whitespace, or is not text in UTF-8.
    """
    check_text_file(path)
    content = Path(path).read_bytes()
    check_no_nul(path, content)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise utf8_error(path, error.start, content[error.start]) from error
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise ValueError(f"{path} {'has only whitespace' if text else 'is empty'}; it must contain text")
    return text


def check_text_file(path: str | Path) -> None:
    """Raise FileNotFoundError if there is no such file, IsADirectoryError for a folder."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; it must be a text file")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; it must be a text file")


def check_no_nul(path: str | Path, content: bytes) -> None:
    """Raise ValueError if there is a NUL byte: valid in UTF-8, but a sign of a binary file or of UTF-16."""
    if b"\0" in content:
        raise ValueError(f"{path} is binary or UTF-16 (it has NUL bytes); it must be text in UTF-8")


def utf8_error(path: str | Path, position: int, byte: int) -> ValueError:
    """The error for a file whose byte at `position`, counted from 0, is not valid UTF-8."""
    where = f"byte {position} is 0x{byte:02x}"
    return ValueError(f"{path} is binary or in another encoding ({where}); it must be text in UTF-8")

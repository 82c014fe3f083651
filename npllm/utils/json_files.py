"""JSON files that others wrote: read strictly, with errors that name the file.

Python's json raises RecursionError for deep nesting, takes the last of two fields of one name, and decodes UTF-16. Here
each of these is a FileError: a file that can be read in two ways is damaged.

Bray 2017, The JavaScript Object Notation (JSON) Data Interchange Format, RFC 8259, sections 4 and 8.1.
"""

import json
from collections import Counter
from os import PathLike
from pathlib import Path
from typing import Any

from npllm.utils.file_errors import FileError
from npllm.utils.files import read_regular_file

MAX_BYTES = 100_000_000


def read_json_object(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The object in a JSON file, as a dict. Raises OSError, or FileError for a file that is none of `max_bytes`."""
    return parse_json_object(read_regular_file(path, max_bytes), path)


def parse_json_object(text: bytes, path: str | PathLike) -> dict[str, Any]:
    """The object that this UTF-8 text is. Raises FileError with the path, which may be followed by other words."""
    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
        if b"\\u" in text:
            json.dumps(content, ensure_ascii=False).encode()
    except RecursionError:
        raise FileError(path, "is damaged: its lists and objects are nested too deeply") from None
    except UnicodeEncodeError:
        raise FileError(path, r"is damaged: a text has half of a surrogate pair, such as \ud800") from None
    except ValueError as error:
        raise FileError(path, f"is damaged: {error}") from None
    if not isinstance(content, dict):
        raise FileError(path, f"is damaged: it is a {type(content).__name__}; it must be a JSON object")
    return content


def as_json(value: Any, max_length: int = 80) -> str:
    """The value as JSON for a message, shortened to max_length characters."""
    text = json.dumps(value, ensure_ascii=True) if not isinstance(value, (list, dict)) else _abbreviated(value)
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


def _abbreviated(value: Any) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"the field {as_json(counts.most_common(1)[0][0])} is there more than once")
    return content

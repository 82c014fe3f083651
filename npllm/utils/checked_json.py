"""JSON files of npllm with a format, a version and a checksum.

    {"format": "npllm run", "version": 3, "sha256": "9f86d0…", …}

The checksum is the SHA-256 of all other fields, written as JSON without whitespace and with sorted keys. It finds
damage by a disk or an editor; it is no protection against a person, who can compute it anew.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from npllm.utils.file_errors import FileError
from npllm.utils.files import atomic_write
from npllm.utils.json_files import as_json, read_json_object


def write_checked_json(path: str | Path, format_name: str, version: int, content: Mapping[str, Any]) -> None:
    """Write the content with its format, version and checksum, atomically. Raises ValueError for nan and infinity."""
    fields = {"format": format_name, "version": version, **content}
    fields = {"format": format_name, "version": version, "sha256": checksum(fields), **content}
    text = json.dumps(fields, indent=1, allow_nan=False)
    with atomic_write(path) as file:
        file.write(text.encode())


def read_checked_json(path: str | Path, format_name: str, version: int) -> dict[str, Any]:
    """The content of a file that `write_checked_json` wrote.

    Raises OSError, or FileError for damaged JSON, another format or version, and a checksum that does not fit.
    """
    fields = read_json_object(Path(path))
    for key, expected in (("format", format_name), ("version", version)):
        value = fields.pop(key, None)
        if type(value) is not type(expected) or value != expected:
            raise FileError(
                path, f"has {key} {as_json(value)}; it must be {as_json(expected)}, which this npllm reads",
                field=key, value=value, must_be=as_json(expected),
            )  # fmt: skip
    recorded = fields.pop("sha256", None)
    if recorded != checksum({"format": format_name, "version": version, **fields}):
        raise FileError(
            path, "is damaged or was edited: its fields do not have the checksum that it records",
            field="sha256", value=recorded,
        )  # fmt: skip
    return fields


def checksum(fields: Mapping[str, Any]) -> str:
    """The SHA-256 of the fields as JSON without whitespace and with sorted keys, in hexadecimal digits."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

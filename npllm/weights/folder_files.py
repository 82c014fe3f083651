"""The files of a model folder: which may be read, and how they are replaced.

    with replacing(folder) as temporary:
        …write files into temporary…       an error here leaves the folder as it was

A folder may come from anywhere. A link in it could name any file of the computer, and a pipe instead of a file
would be waited for without end, so both are refused before a file is opened.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from npllm.utils.file_errors import FileError
from npllm.utils.files import check_regular_file
from npllm.utils.temporary_files import temporary_folder

CONFIG = "config.json"
READ = {".json", ".safetensors", ".jinja", ".gguf", ".model", ".tiktoken", ".txt", ".bpe"}  # endings of files to read


def as_path(name: str, path: Any) -> Path:
    """Return the path as a Path; raise TypeError or ValueError, with the name of the argument, for what is no path."""
    if not isinstance(path, (str, PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"{name} is {path!r:.80}; it must be a path, a str or a pathlib.Path")
    if "\0" in (text := os.fspath(path)):
        raise ValueError(f"{name} is {text!r:.80}; a path has no null character")
    return Path(path)


def check_folder(folder: Path) -> None:
    """Raise FileError or OSError unless the files in the folder that could be read are regular files inside it.

    The folder itself may be a link. In a cache of Hugging Face's hub, where the files of a snapshot are links to the
    folder of blobs, these links are allowed.
    """
    real = folder.resolve()
    allowed = [real, real.parent.parent / "blobs"] if real.parent.name == "snapshots" else [real]
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if Path(entry.name).suffix in READ)
    for name in names:
        path = folder / name
        if path.is_symlink():
            target = path.resolve()
            if not any(target.is_relative_to(root) for root in allowed):
                raise FileError(path, f"is a link to {target}; it must be a file in the folder")
        check_regular_file(path)


@contextmanager
def replacing(folder: str | PathLike, others: Iterable[str] = ()) -> Iterator[Path]:
    """A temporary folder, whose files replace those of the same names in `folder` at the end of the `with` block.

    others   names of files that are removed where the temporary folder has none of the name

    `folder` is created if it does not exist. After an exception (a full disk, Ctrl-C) its files are unchanged. The old
    config.json is removed first, and the new one comes last: if the computer fails in between, the folder is not
    complete, and never has the weights of one model with the configuration of another.
    """
    folder = as_path("folder", folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder) as temporary:
            yield temporary
            _move(temporary, folder, others)
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(folder)) from error  # a full disk has no file name


def _move(temporary: Path, folder: Path, others: Iterable[str]) -> None:
    paths = sorted(temporary.iterdir(), key=lambda path: path.name == CONFIG)
    for path in paths:
        target = folder / path.name
        if target.is_dir():
            raise IsADirectoryError(f"{target} is a folder; it must be a file, or not exist")
        if target.is_file():
            shutil.copymode(target, path)
    if (temporary / CONFIG).is_file():
        (folder / CONFIG).unlink(missing_ok=True)
    for name in set(others) - {path.name for path in paths}:
        (folder / name).unlink(missing_ok=True)
    for path in paths:
        os.replace(path, folder / path.name)

"""What a reader must do with a damaged file, as a round of the fuzzer.

    READERS = {"run.json": Reader({"run.json": content}, "run.json", open_run, mutate_text_of_json)}
    ROUNDS = rounds(READERS)

A reader returns a value, or raises FileError or OSError with a message that names the file. Any other exception, a
message without the name, a hang, a signal, and memory beyond `max_peak` are findings. Where a file has a checksum, what
is accepted must equal what the undamaged file holds.
"""

import pickle
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.isolated import Outcome, isolated
from tests.fuzz.mutations import mutate_bytes
from tests.fuzz.runner import Finding, Round

MIB = 2**20


@dataclass(frozen=True)
class Reader:
    """A reader and a folder that it reads.

    files      the folder: name → content; a function without arguments, which is called once
    damaged    name of the file to damage
    read       of the folder's path; it must use what it has read, and return what pickle can hold
    damage     (rng, content) → damaged content
    verified   the file has a checksum: no damage may be accepted that changes what `read` returns
    max_peak   bytes of memory
    names      one of these must be in the message (default: the name of the damaged file)
    number     of cases in a round
    allowed    classes of exceptions
    """

    files: Callable[[], Mapping[str, bytes]]
    damaged: str
    read: Callable[[Path], Any]
    damage: Callable[[np.random.Generator, bytes], bytes] = mutate_bytes
    verified: bool = False
    max_peak: int = 300 * MIB
    timeout: float = 20.0
    names: tuple[str, ...] = ()
    number: int = 100
    allowed: tuple[str, ...] = ("FileError", "OSError")


@cache
def content_of(reader: Reader) -> dict[str, bytes]:
    """The undamaged files."""
    return dict(reader.files())


def try_contents(reader: Reader, contents: list[bytes]) -> list[tuple[bytes, Outcome]]:
    """What the reader makes of each content of its damaged file, in a child process."""
    with tempfile.TemporaryDirectory() as folder:
        read = partial(_read, Path(folder), reader)
        return list(zip(contents, isolated(read, contents, timeout=reader.timeout)))


def _read(folder: Path, reader: Reader, content: bytes) -> Any:
    for path in folder.iterdir():
        path.unlink()
    for name, undamaged in (content_of(reader) | {reader.damaged: content}).items():
        (folder / name).write_bytes(undamaged)
    return reader.read(folder)


@cache
def undamaged_result(reader: Reader) -> Any:
    """What `read` returns for the undamaged files."""
    [(_, outcome)] = try_contents(reader, [content_of(reader)[reader.damaged]])
    if outcome.kind != "returned":
        raise Finding(f"the undamaged {reader.damaged}: {said(outcome)}")
    return outcome.result


def problem(reader: Reader, outcome: Outcome) -> str | None:
    """What is wrong with the outcome, or None."""
    if outcome.kind in ("timeout", "signal"):
        return outcome.message
    if outcome.peak > reader.max_peak:
        return f"{outcome.peak // MIB} MiB of memory; {said(outcome)}"
    if outcome.kind == "raised":
        if not set(outcome.bases) & set(reader.allowed):
            return said(outcome)
        if not any(name in outcome.message for name in reader.names or (reader.damaged,)):
            return f"the message does not name the file; {said(outcome)}"
    elif reader.verified and pickle.dumps(outcome.result) != pickle.dumps(undamaged_result(reader)):
        return "accepted with another content, though the file has a checksum"
    return None


def said(outcome: Outcome) -> str:
    """The outcome in words, with the end of the traceback of an exception that is not allowed."""
    if outcome.kind == "returned":
        return "accepted"
    text = f"{outcome.error}: {outcome.message[:500]}"
    return text if set(outcome.bases) & {"FileError", "OSError"} else f"{text}\n{outcome.traceback}"


def check_reader(name: str, reader: Reader, rng: np.random.Generator, number: int | None = None) -> int:
    """One round of damaged files. Raises a Finding with one case for each kind of wrong outcome."""
    undamaged_result(reader)
    number = number or reader.number
    content = content_of(reader)[reader.damaged]
    findings: dict[str, Finding] = {}
    for damaged, outcome in try_contents(reader, [reader.damage(rng, content) for _ in range(number)]):
        found = problem(reader, outcome)
        if found:
            kind = f"{outcome.error} {_location(outcome)}" if outcome.kind == "raised" else found
            findings.setdefault(kind, Finding(f"{name}: {found}", damaged, kind))
    if findings:
        first, *others = findings.values()
        first.others, first.tried = others, number
        raise first
    return number


def _location(outcome: Outcome) -> str:
    """File, line and function of the last frame of npllm in the traceback."""
    frames = re.findall(r'File ".*?(npllm/[^"]*)", line (\d+), in (\w+)', outcome.traceback)
    return ":".join(frames[-1]) if frames else ""


def rounds(readers: Mapping[str, Reader]) -> dict[str, Round]:
    """A round for each reader, by its name."""
    return {name: partial(check_reader, name, reader) for name, reader in readers.items()}

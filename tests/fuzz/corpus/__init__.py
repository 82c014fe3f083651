"""Damaged files that once had a wrong outcome: one JSON object a line in failures.jsonl.

    python -m tests.fuzz.corpus "config.json of llama" fuzz-findings/NAME.bin "what went wrong"

appends a case. `content` is the damaged file, compressed with zlib, in base64; `round` is the name of its Reader.
"""

import base64
import json
import zlib
from pathlib import Path

FAILURES = Path(__file__).parent / "failures.jsonl"


def add(round_name: str, content: bytes, failure: str) -> None:
    """Append a case."""
    packed = base64.b64encode(zlib.compress(content, 9)).decode()
    with open(FAILURES, "a", encoding="utf-8") as file:
        file.write(json.dumps({"round": round_name, "failure": failure, "content": packed}) + "\n")


def cases() -> list[tuple[str, str, bytes]]:
    """(name of the round, what went wrong, damaged content) of each case."""
    rows = [json.loads(line) for line in FAILURES.read_text(encoding="utf-8").splitlines()]
    return [(row["round"], row["failure"], zlib.decompress(base64.b64decode(row["content"]))) for row in rows]

"""The training log: a text file with one JSON object for each step.

{"step": 0, "loss": 4.17, "learning_rate": 3e-05, …}

A run does not depend on its log. Damaged lines are left out, and the damaged file is kept as log.damaged.jsonl.
"""

import json
import shutil
from os import PathLike
from pathlib import Path
from typing import Any

from npllm.utils.fields import REQUIRED, number, optional, read_fields, size, text
from npllm.utils.file_errors import FileError
from npllm.utils.files import atomic_write, check_regular_file, naming_the_file
from npllm.utils.json_files import parse_json_object

RECORD = {
    "step": size(REQUIRED, low=0, high=2**53),
    "loss": number(REQUIRED),
    "learning_rate": optional(number(None)),
    "grad_norm": optional(number(None)),
    "tokens_per_second": optional(number(None, low=1)),
    "validation_loss": number(None),
    "sample": text(None),
}


class StepLog:
    """The records of a run, in a file and in the list `records`.

    On opening, records of step `steps_done` and later are removed: they are newer than the checkpoint, and a resumed
    run repeats those steps. So is an incomplete last line, which a crash may leave.

    problem   a sentence about the damaged lines that were left out, or None
    """

    def __init__(self, path: str | PathLike, steps_done: int):
        self.path = Path(path)
        self.problem: str | None = None
        self.records = [record for record in self._read() if record["step"] < steps_done]
        with atomic_write(self.path) as file:
            file.write("".join(json.dumps(record) + "\n" for record in self.records).encode())

    def add(self, record: dict[str, Any]) -> None:
        """Append the record of a step."""
        self.records.append(record)
        with naming_the_file(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def recent_loss(self, num_steps: int = 20) -> float:
        """The mean loss over the last `num_steps` steps."""
        recent = self.records[-num_steps:]
        return sum(record["loss"] for record in recent) / len(recent)

    def _read(self):
        """The records of the file whose lines are valid and whose steps increase."""
        if not self.path.exists():
            return []
        check_regular_file(self.path)
        records, damaged = [], []
        lines = self.path.read_bytes().split(b"\n")
        for index, line in enumerate(lines[:-1], 1):  # behind the last line break is nothing, or an incomplete line
            try:
                record = parse_json_object(line, f"{self.path}: line {index}")
                read_fields(f"{self.path}: line {index}", record, RECORD)
                if records and record["step"] <= records[-1]["step"]:
                    raise FileError(
                        f"{self.path}: line {index}", "has a step that is not behind that of the line before"
                    )
                records.append(record)
            except FileError as error:
                damaged.append(error)
        if damaged:
            kept = self.path.with_suffix(f".damaged{self.path.suffix}")
            with atomic_write(kept) as file, open(self.path, "rb") as source:
                shutil.copyfileobj(source, file)
            self.problem = (
                f"{damaged[0]}. {len(damaged)} of {len(lines) - 1} lines were left out; the damaged log is {kept.name}"
            )
        return records

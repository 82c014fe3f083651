"""The training log: a text file with one JSON object for each step.

{"step": 0, "loss": 4.17, "learning_rate": 3e-05, …}
"""

import json
from pathlib import Path
from typing import Any

from npllm.utils.files import atomic_write


class StepLog:
    """The records of a run, in a file and in the list `records`.

    On opening, records of step `steps_done` and later are removed: they are newer than the checkpoint, and a resumed
    run repeats those steps.
    """

    def __init__(self, path: str | Path, steps_done: int):
        self.path = Path(path)
        self.records = [record for record in _read(self.path) if record["step"] < steps_done]
        with atomic_write(self.path) as file:
            file.write("".join(json.dumps(record) + "\n" for record in self.records).encode())

    def add(self, record: dict[str, Any]) -> None:
        """Append the record of a step."""
        self.records.append(record)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def recent_loss(self, num_steps: int = 20) -> float:
        """The mean loss over the last `num_steps` steps."""
        recent = self.records[-num_steps:]
        return sum(record["loss"] for record in recent) / len(recent)


def _read(path):
    """The records of a log up to the first incomplete line, which a crash may leave."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records

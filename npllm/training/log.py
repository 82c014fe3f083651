"""The log of a training: a file with one JSON object for each step.

{"step": 0, "loss": 4.17, "learning_rate": 3e-05, …}
"""

import json
from pathlib import Path

from npllm.utils.files import atomic_write


class StepLog:
    """The records of a run, in a file and as a list; what comes after `steps_done` is cut off when a run goes on."""

    def __init__(self, path, steps_done):
        self.path = Path(path)
        self.records = [record for record in _read(self.path) if record["step"] < steps_done]
        with atomic_write(self.path) as file:
            file.write("".join(json.dumps(record) + "\n" for record in self.records).encode())

    def add(self, record):
        """Append a step."""
        self.records.append(record)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def recent_loss(self, num_steps=20):
        """The mean over the last steps."""
        recent = self.records[-num_steps:]
        return sum(record["loss"] for record in recent) / len(recent)


def _read(path):
    """The records of a log; a last line that a crash cut off is left out, and what follows it."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records

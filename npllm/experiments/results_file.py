"""The results of an experiment as a JSON file, and the files that ship with the project.

    {"experiment", "claim", "rule", "scale", "settings", "seeds", "seconds", "environment", "verdict", "table", "rows"}

`rows` has one entry for each measurement and seed, `table` the means over the seeds with their 95% intervals.
"""

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from npllm.core.threads import num_threads
from npllm.experiments.experiment import Experiment, Results, Verdict
from npllm.experiments.statistics import Interval
from npllm.utils.files import atomic_write

MEASURED = Path(__file__).with_name("measured")


def as_content(
    experiment: Experiment, scale: str, results: Results, verdict: Verdict, seconds: float
) -> dict[str, Any]:
    """What is written into the file."""
    return {
        "experiment": experiment.name,
        "claim": experiment.claim,
        "rule": experiment.rule,
        "scale": scale,
        "settings": asdict(experiment.scales[scale]),
        "seeds": results.distinct("seed"),
        "seconds": round(seconds, 1),
        "environment": environment(),
        "verdict": asdict(verdict),
        "table": [{key: _plain(value) for key, value in row.items()} for row in results.table()],
        "rows": results.rows,
    }


def environment() -> dict[str, Any]:
    """The software, the kind of machine and the number of threads."""
    return {
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "threads": num_threads(),
    }


def write(path: Path, content: dict[str, Any]) -> None:
    """Write the file as a whole or not at all."""
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())


def shipped(name: str) -> dict[str, Any] | None:
    """The content of the file of the full run that ships with the project; None if there is none."""
    path = MEASURED / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _plain(value: Any) -> Any:
    if not isinstance(value, Interval):
        return value
    bounds = [value.low, value.high] if np.isfinite(value.low) else None
    return {"mean": value.mean, "interval": bounds}

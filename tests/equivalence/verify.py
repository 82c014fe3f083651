"""The rows of `npllm verify`: the differences of every function, layer and model from PyTorch."""

from dataclasses import dataclass

import numpy as np

from tests.equivalence.cases import CASES, RandomInputs

SEEDS = range(5)  # of the random inputs, for each case and dtype


@dataclass(frozen=True)
class Row:
    """The differences of one case in one dtype."""

    name: str  # of the function, layer or model
    dtype: str
    output: float  # largest absolute difference of the output, over all inputs
    gradients: float | None  # the same over all gradients; None without a backward
    tolerance_ratio: float  # largest difference divided by its tolerance
    problem: str = ""  # the exception, if the case cannot run

    @property
    def ok(self):
        """Whether all differences are within tolerance."""
        return not self.problem and self.tolerance_ratio <= 1.0


def rows(cases=CASES):
    """Run every case in float32 and float64; yield a Row for each as soon as it is computed."""
    for name, run in cases.items():
        for dtype in ("float32", "float64"):
            yield _row(name, run, dtype)


def _row(name, run, dtype):
    try:
        differences = [found for seed in SEEDS for found in run(RandomInputs(seed, dtype))]
    except Exception as error:  # a case that cannot run becomes a row that says so, and the next case follows
        return Row(name, dtype, np.inf, np.inf, np.inf, f"{type(error).__name__}: {error}")
    outputs = [found.error for found in differences if found.what.startswith("output")]
    gradients = [found.error for found in differences if not found.what.startswith("output")]
    ratio = max(found.tolerance_ratio for found in differences)
    return Row(name, dtype, max(outputs), max(gradients, default=None), ratio)

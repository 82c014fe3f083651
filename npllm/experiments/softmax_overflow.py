"""Experiment 8: where softmax without the subtraction of the maximum fails, and what is lost before."""

from dataclasses import dataclass

import numpy as np

from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.layers.softmax import softmax, softmax_naive, softmax_naive_limit

TOLERANCE = 0.01  # of the sum of a row, which is 1
STABLE = "minus the maximum"
DTYPES = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    num_rows: int  # rows of scores for each offset
    num_scores: int = 64


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each dtype and offset: the share of rows that fail, and the largest error of the others."""
    scores = np.random.default_rng(seed).standard_normal((scale.num_rows, scale.num_scores))
    result = []
    for dtype in DTYPES:
        limit = float(softmax_naive_limit(dtype, scale.num_scores))
        for fraction in (-1.5, -1.0, -0.5, 0.0, 0.5, 0.9, 1.1, 1.5):
            x = (scores + fraction * limit).astype(dtype)
            exact = softmax(x.astype(np.float64))
            with np.errstate(all="ignore"):
                forms = {"naive": softmax_naive(x), STABLE: softmax(x)}
            for form, y in forms.items():
                is_right = np.abs(y.astype(np.float64).sum(axis=-1) - 1.0) < TOLERANCE  # nan is not
                error = np.abs(y[is_right] - exact[is_right]).max(initial=0.0) / np.finfo(dtype).eps
                result.append(
                    {
                        "dtype": dtype,
                        "form": form,
                        "offset": fraction,
                        "failed": float(1.0 - is_right.mean()),
                        "error": float(error),
                    }
                )
    return result


def _largest_error(results: Results, dtype: str, form: str) -> float:
    """The largest mean error at the offsets where no naive row fails."""
    offsets = [
        offset
        for offset in results.distinct("offset")
        if not results.values("failed", dtype=dtype, form="naive", offset=offset).any()
    ]
    return max(results.interval("error", dtype=dtype, form=form, offset=offset).mean for offset in offsets)


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    above = [results.interval("failed", dtype=dtype, form="naive", offset=1.1).mean for dtype in DTYPES]
    below = [results.interval("failed", dtype=dtype, form="naive", offset=0.5).mean for dtype in DTYPES]
    stable = max(row["failed"] for row in results.rows if row["form"] != "naive")
    limits = ", ".join(f"{float(softmax_naive_limit(dtype)):.2f} in {dtype}" for dtype in DTYPES)
    errors = ", ".join(
        f"{_largest_error(results, dtype, 'naive'):.2g} against {_largest_error(results, dtype, STABLE):.2g} in {dtype}"
        for dtype in DTYPES
    )
    because = (
        f"One score overflows above {limits}. At 1.1 times the limit of 64 equal scores {100 * min(above):.0f}% of the "
        f"naive rows or more fail, at half of it {100 * max(below):.2g}% or fewer; of the stable form "
        f"{100 * stable:.2g}%. Where no row fails, the largest error in units of eps of the naive form against the "
        f"stable one is {errors}."
    )
    if stable > 0:
        return Verdict("not supported", because)
    return Verdict("supported" if min(above) > 0.99 and max(below) == 0 else "depends", because)


EXPERIMENT = Experiment(
    name="softmax-overflow",
    claim="Naive softmax overflows; subtracting the maximum does not.",
    question="At which scores does exp(x) / Σ exp(x) fail in each dtype, and what is lost before that?",
    setting=(
        "Rows of 64 standard normal scores plus an offset, a multiple of the limit: the largest score of which 64 "
        "equal ones have a finite sum of exponentials. Both forms in float16, float32 and float64, against the stable "
        "form in float64."
    ),
    measure="The share of rows whose sum is not 1 within 0.01 or not finite; the largest other error in units of eps.",
    rule=(
        "Supported if at 1.1 times the limit more than 99% of the naive rows fail in every dtype, at half the limit "
        "none does, and the form that subtracts the maximum never fails. Not supported if the latter fails anywhere."
    ),
    keys=("dtype", "form", "offset"),
    scales={"miniature": Scale(2, 20), "default": Scale(5, 2000), "full": Scale(10, 20000)},
    rows=rows,
    judge=judge,
    plots=(Plot("offset", "failed", "dtype"),),
)

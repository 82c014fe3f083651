"""An experiment: a claim, how it is measured, and the rule by which the numbers decide.

    Experiment + scale → measure(scale, seed) for each seed → Results → judge → Verdict

`measure` returns rows such as {"model": "GRU", "distance": 8, "accuracy": 0.93}. The columns in `keys` say what a row
is about; the others are quantities. The rule is written down as text and as the function `judge` before anything is
run, so a verdict follows from the numbers alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from npllm.experiments.statistics import Interval, log_slope, mean_interval

Row = dict[str, Any]
Outcome = Literal["supported", "not supported", "depends"]
SCALES = ("miniature", "default", "full")  # of the tests, of a run within three minutes, and the careful one


@dataclass(frozen=True)
class Verdict:
    """What the numbers say about the claim, and the numbers in a sentence."""

    outcome: Outcome
    because: str


@dataclass(frozen=True)
class Plot:
    """A line for each value of the column `series`: the quantity `y` over the column `x`."""

    x: str
    y: str
    series: str
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Experiment:
    """See above. `scales` has the settings of each scale, an object with the attribute `num_seeds`."""

    name: str
    claim: str
    question: str
    setting: str
    measure: str
    rule: str
    keys: tuple[str, ...]
    scales: Mapping[str, Any]
    rows: Callable[[Any, int], list[Row]]
    judge: Callable[["Results"], Verdict]
    plots: tuple[Plot, ...]

    def run(self, scale: str = "default", seed: int = 0) -> "Results":
        """Measure with the seeds seed, seed + 1, …

        Raises ValueError for an unknown scale.
        """
        if scale not in self.scales:
            raise ValueError(f"scale is {scale!r}; it must be one of {', '.join(self.scales)}")
        settings = self.scales[scale]
        seeds = range(seed, seed + settings.num_seeds)
        return Results(self.keys, [{"seed": s} | row for s in seeds for row in self.rows(settings, s)])


@dataclass(frozen=True)
class Results:
    """The rows of all seeds, and what is computed from them."""

    keys: tuple[str, ...]
    rows: list[Row] = field(repr=False)

    def distinct(self, column: str) -> list[Any]:
        """The values of a column, in the order of their first row."""
        return list(dict.fromkeys(row[column] for row in self.rows))

    def values(self, quantity: str, **where: Any) -> np.ndarray:
        """The quantity for each seed in the one row where all columns have these values      (S)

        Raises KeyError unless each seed has exactly one such row.
        """
        found = [row for row in self.rows if all(row[column] == value for column, value in where.items())]
        if [row["seed"] for row in found] != self.distinct("seed"):
            raise KeyError(f"{len(found)} rows have {where}; each of the {len(self.distinct('seed'))} seeds has one")
        return np.array([row[quantity] for row in found], np.float64)

    def interval(self, quantity: str, **where: Any) -> Interval:
        """The mean over the seeds."""
        return mean_interval(self.values(quantity, **where))

    def difference(self, quantity: str, first: Row, second: Row) -> Interval:
        """The mean over the seeds of the quantity in the row `first` minus that in the row `second`."""
        return mean_interval(self.values(quantity, **first) - self.values(quantity, **second))

    def slope(self, quantity: str, over: str, **where: Any) -> Interval:
        """The slope of ln quantity over ln `over`, fitted for each seed."""
        x = self.distinct(over)
        y = np.array([self.values(quantity, **where, **{over: value}) for value in x])
        return mean_interval([log_slope(x, of_seed) for of_seed in y.T])

    def table(self) -> list[Row]:
        """A row for each combination of the keys, with the interval of each quantity."""
        groups: dict[tuple, Row] = {}
        for row in self.rows:
            groups.setdefault(tuple(row[key] for key in self.keys), {})
        quantities = [column for column in self.rows[0] if column not in self.keys and column != "seed"]
        table = []
        for values in groups:
            where = dict(zip(self.keys, values))
            table.append(where | {quantity: self.interval(quantity, **where) for quantity in quantities})
        return table

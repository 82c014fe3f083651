"""The figure of an experiment: each plot has a line for each series, with the 95% intervals of its means."""

from itertools import product
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from npllm.experiments.experiment import Experiment, Plot, Results
from npllm.utils.plots import panels


def draw(experiment: Experiment, results: Results) -> Figure:
    """One panel for each plot and each combination of the keys that are neither its x nor its series."""
    parts = [(plot, where) for plot in experiment.plots for where in _others(experiment, results, plot)]
    figure, axes = panels(len(parts), experiment.claim)
    for axis, (plot, where) in zip(axes, parts):
        for series in results.distinct(plot.series):
            _line(axis, results, plot, where | {plot.series: series})
        axis.set(xlabel=plot.x, ylabel=plot.y, title=", ".join(f"{key}: {value}" for key, value in where.items()))
        axis.set_xscale("log" if plot.log_x else "linear")
        axis.set_yscale("log" if plot.log_y else "linear")
        axis.legend(title=plot.series)
        axis.grid(alpha=0.3)
    return figure


def _others(experiment: Experiment, results: Results, plot: Plot) -> list[dict[str, Any]]:
    keys = [key for key in experiment.keys if key not in (plot.x, plot.series)]
    return [dict(zip(keys, values)) for values in product(*(results.distinct(key) for key in keys))]


def _line(axis: Any, results: Results, plot: Plot, where: dict[str, Any]) -> None:
    x = results.distinct(plot.x)
    intervals = [results.interval(plot.y, **where, **{plot.x: value}) for value in x]
    means = np.array([interval.mean for interval in intervals])
    bounds = np.array([[interval.low, interval.high] for interval in intervals])
    errors = np.where(np.isfinite(bounds), np.abs(bounds - means[:, None]), 0.0).T
    axis.errorbar(x, means, yerr=errors, marker="o", markersize=3, capsize=2, label=str(where[plot.series]))

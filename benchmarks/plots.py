"""Plots of a results.json as SVG: ratios, growth, shares of the limit. `python -m benchmarks.plots FILE FOLDER`.

They are black and grey: contenders differ by marker and line style.
"""

import statistics
import sys
from pathlib import Path

from benchmarks.measure import LOOPS, OURS
from benchmarks.report import read_json
from benchmarks.slopes import fit_slope, points, series, upper_half
from npllm.utils.plots import panels, save_figure

STYLES = [("o", "-", "0.0"), ("s", "--", "0.45"), ("^", ":", "0.3"), ("D", "-.", "0.6"), ("v", "--", "0.2"),
          ("P", ":", "0.5"), ("X", "-.", "0.35"), ("*", "-", "0.6")]  # fmt: skip


def draw_all(folder, content):
    """Draw what the content has data for into a folder, and return the names of the files."""
    figures = {"ratios.svg": ratios(content), "growth.svg": growth(content), "shares.svg": shares(content)}
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    for name, figure in drawn.items():
        save_figure(figure, folder / name)
    return [*drawn]


def ratios(content):
    """The time of every contender relative to npllm's, a row for each job that has a limit; None if there is none."""
    jobs = [job for job in _with_limit(content) if job["times_npllm"]]
    if not jobs:
        return None
    names = [*dict.fromkeys(name for job in jobs for name in job["times_npllm"] if name != LOOPS)]
    figure, axes = _rows(jobs, "Time of others relative to npllm's: right of the line npllm is faster")
    for name, (marker, _, grey) in zip(names, STYLES * 3):
        found = [(row, job["times_npllm"][name]) for row, job in enumerate(jobs) if name in job["times_npllm"]]
        filled = "none" if grey > "0.4" else grey
        middle = [ratio["median"] for _, ratio in found]
        axes.plot(middle, [row for row, _ in found], marker, color=grey, markerfacecolor=filled, label=name)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def shares(content):
    """npllm's share of the machine's limit, and that of the first contender."""
    jobs = _with_limit(content)
    if not jobs:
        return None
    figure, axes = _rows(jobs, "Share of the machine's limit (percent)")
    for row, job in enumerate(jobs):
        least = job["limit"]["seconds"]
        hatch = "" if job["limit"]["kind"] == "matrix products" else "///"
        axes.barh(row, 100 * least / _median(job, OURS), color="0.75", edgecolor="black", linewidth=0.5, hatch=hatch)
        others = [name for name in job["times_npllm"] if name != LOOPS]
        if others:
            axes.plot(100 * least / _median(job, others[0]), row, "D", color="black", markersize=4)
    axes.axvline(100, color="black", linewidth=1)
    axes.set_xlabel("bar: npllm (hatched: limited by bandwidth); diamond: the first of the others", fontsize=8)
    return figure


def growth(content):
    """One panel for each series: time over size on logarithmic axes, with slopes in the legend."""
    found = series(content["jobs"])
    if not found:
        return None
    figure, axes = panels(len(found), "Growth: time of one call, slopes over the larger half of the sizes")
    for panel, ((name, axis), jobs) in zip(axes, found.items()):
        others = [other for other in jobs[-1]["times_npllm"] if all(other in job["seconds"] for job in jobs)]
        for who, (marker, line, grey) in zip([OURS, *others], STYLES):
            sizes, seconds = points(jobs, who, _median)
            slope = fit_slope(*upper_half(sizes, seconds))
            label = who if slope is None else f"{who}: slope {slope:.2f}"
            panel.plot(sizes, seconds, marker=marker, linestyle=line, color=grey, label=label)
        panel.set(title=name, xlabel=axis, ylabel="seconds", xscale="log", yscale="log")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    return figure


def _with_limit(content):
    """The jobs of the table: with a limit, without those that are ideas or points of a series beyond the table."""
    return [job for job in content["jobs"] if "limit" in job and not job["job"].startswith(("idea: ", "training step"))]


def _rows(jobs, title):
    figure, (axes,) = panels(1, title)
    figure.set_size_inches(10, 2 + 0.3 * len(jobs))
    axes.set_yticks(range(len(jobs)), [f"{job['job']}, {job['size']}" for job in jobs], fontsize=8)
    axes.set_ylim(len(jobs) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    return figure, axes


def _median(job, who):
    return statistics.median(job["seconds"][who]) if who in job["seconds"] else None


if __name__ == "__main__":
    print(*draw_all(Path(sys.argv[2]), read_json(Path(sys.argv[1]))))

"""What was measured, for a person (a table, a plot), for a program (JSON) and for the README."""

import json

import numpy as np
from matplotlib.figure import Figure
from rich.text import Text

from benchmarks.measure import LOOPS, OURS
from npllm.utils.files import atomic_write
from npllm.utils.markdown import markdown_table, replace_section


def show_machine(console, machine):
    """Print what the numbers are measured on, a line each."""
    for name, what in machine.items():
        console.print(Text(f"{name:<9} {what}", style="red" if name == "beware" else ""), soft_wrap=True)


def show(console, measurement):
    """Print a job: a line for each contender, with its time, and how many times longer than npllm it takes."""
    head = Text.assemble((measurement.name, "bold"), f"   {measurement.size}")
    console.print()
    console.print(head, soft_wrap=True)
    for name in measurement.seconds:
        line = f"  {name:<21} {_spread(measurement.time(name), _duration)}"
        if name != OURS:
            line = f"{line:<56} × {_spread(measurement.ratio(name), _ratio)}"
        if name in measurement.peaks:
            line = f"{line}   at most {_mebibytes(measurement.peaks[name])}"
        console.print(Text(line), soft_wrap=True)


def write_json(path, machine, settings, measurements):
    """Everything measured: machine, settings, and of each job the seconds of one call in every round."""
    content = {
        "machine": machine,
        "settings": settings,
        "jobs": [
            {
                "job": m.name,
                "size": m.size,
                "seconds": m.seconds,
                "calls": m.calls,
                "peak_bytes": m.peaks,
                "times_npllm": {name: dict(zip(("low", "median", "high"), m.ratio(name))) for name in m.others},
            }
            for m in measurements
        ],
    }
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1).encode())


def draw(path, measurements):
    """A plot: for each job how many times longer the others take, on a logarithmic scale."""
    shown = [m for m in measurements if m.others]
    figure = Figure(figsize=(9, 1.6 + 0.28 * len(shown)), layout="constrained")
    axes = figure.subplots()
    groups = [  # name in the legend, colour, marker, height within the job's line, and who belongs to it
        ("what a user would run instead", "C0", "o", -0.15, lambda m: [name for name in m.others if name != LOOPS][:1]),
        ("another way to run it", "C2", "D", 0.15, lambda m: [name for name in m.others if name != LOOPS][1:]),
        ("plain loops", "C1", "s", 0.0, lambda m: [name for name in m.others if name == LOOPS]),
    ]
    for label, colour, marker, height, who in groups:
        points = [(row + height, *m.ratio(name)) for row, m in enumerate(shown) for name in who(m)]
        if points:
            rows, low, middle, high = np.array(points).T
            errors = np.abs([middle - low, high - middle])
            axes.errorbar(middle, rows, xerr=errors, fmt=marker, color=colour, markersize=5, capsize=2, label=label)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(shown)), [f"{m.name}  ({m.size})" for m in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("times npllm's time: right of the line npllm is faster")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)


def write_readme(path, machine, settings, measurements):
    """Replace the README's section “benchmarks”: a line for each job, and below it on what it was measured."""
    lines = []
    for m in measurements:
        instead = ", ".join(f"{name} {_ratio(m.ratio(name)[1])}{_peak(m, name)}" for name in m.others if name != LOOPS)
        loops = _ratio(m.ratio(LOOPS)[1]) if LOOPS in m.others else ""
        lines.append([m.name, m.size, f"{_duration(m.time(OURS)[1])}{_peak(m, OURS)}", instead, loops])
    table = markdown_table(["job", "size", "npllm", "what a user would run instead", LOOPS], lines)
    about = ". ".join(f"{name}: {what}" for name, what in machine.items())
    content = f"{table}\n\nMedians of {settings['rounds']} rounds. {about}."
    replace_section(path, "benchmarks", content)


def _peak(measurement, name):
    """The peak memory in brackets, where it was measured."""
    return f" ({_mebibytes(measurement.peaks[name])})" if name in measurement.peaks else ""


def _mebibytes(number):
    return f"{_three_digits(number / 2**20)} MiB"


def _spread(three, spell):
    low, middle, high = map(spell, three)
    return f"{middle:>8}   ({low} – {high})"


def _duration(seconds):
    unit, factor = next(((u, f) for u, f in (("s", 1.0), ("ms", 1e3)) if seconds * f >= 1), ("µs", 1e6))
    return f"{_three_digits(seconds * factor)} {unit}"


def _ratio(ratio):
    return _three_digits(ratio) if ratio >= 1 else f"{ratio:.2f}"


def _three_digits(number):
    """A number of at least 1 to about three digits: 1.23, 12.3, 123, 1,230."""
    decimals = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:,.{decimals}f}"

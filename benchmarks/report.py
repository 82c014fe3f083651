"""Reports of the measurements: lines for the terminal, JSON, a plot, and a Markdown table."""

import json
import statistics

import numpy as np
from matplotlib.figure import Figure
from rich.text import Text

from benchmarks.measure import LOOPS, OURS
from benchmarks.slopes import fit_slope, points, series, upper_half
from npllm.utils.files import atomic_write
from npllm.utils.markdown import markdown_table


def show_machine(console, machine):
    """Print the machine, one line for each property."""
    for name, what in machine.items():
        console.print(Text(f"{name:<9} {what}", style="red" if name == "warning" else ""), soft_wrap=True)


def show(console, measurement):
    """Print a job: for each contender its time, and its time relative to npllm's."""
    head = Text.assemble((measurement.name, "bold"), f"   {measurement.size}")
    console.print()
    console.print(head, soft_wrap=True)
    for name in measurement.seconds:
        line = f"  {name:<21} {_spread(measurement.time(name), _duration)}"
        if name != OURS:
            line = f"{line:<56} × {_spread(measurement.ratio(name), _ratio)}"
        if measurement.tokens is not None:
            line = f"{line}   {_three_digits(measurement.tokens / measurement.time(name)[1])} tokens/s"
        if measurement.limit is not None:
            line = f"{line}   {_percent(measurement.share(name))} of the limit"
        if name in measurement.peaks:
            line = f"{line}   peak {_mebibytes(measurement.peaks[name])}"
        console.print(Text(line), soft_wrap=True)
    for name in measurement.absent:
        console.print(Text(f"  {name:<21} not installed"), soft_wrap=True)
    for name, reason in measurement.skipped.items():
        console.print(Text(f"  {name:<21} left out: {reason}"), soft_wrap=True)
    if measurement.limit is not None:
        limit = measurement.limit
        console.print(Text(f"  limit: {limit.kind}, {_duration(limit.seconds)}"), soft_wrap=True)


def show_limits(console, limits):
    """Print the machine's limits that were measured."""
    console.print()
    for line in limits_lines(limits.as_dict()):
        console.print(Text(line), soft_wrap=True)


def limits_lines(found):
    """The limits in words: bandwidth, and the rates of the products."""
    lines = [] if found["bandwidth"] is None else [f"read bandwidth {found['bandwidth'] / 1e9:.1f} GB/s"]
    return lines + [f"product {shape}: {rate / 1e9:.0f} GFLOP/s" for shape, rate in found["product_rates"].items()]


def read_json(path):
    """The content of a results.json."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path, machine, settings, measurements, limits=None):
    """Write the machine, the settings, and for each job the seconds of one call in every round."""
    content = {
        "machine": machine,
        "settings": settings,
        **({} if limits is None else {"limits": limits.as_dict()}),
        "jobs": [
            {
                "job": m.name,
                "size": m.size,
                "seconds": m.seconds,
                "calls": m.calls,
                "peak_bytes": m.peaks,
                **({} if m.tokens is None else {"tokens": m.tokens}),
                **({} if not m.absent else {"absent": list(m.absent)}),
                **({} if not m.skipped else {"skipped": m.skipped}),
                **({} if m.growth is None else {"growth": list(m.growth)}),
                **({} if m.limit is None else {"limit": {"kind": m.limit.kind, "seconds": m.limit.seconds}}),
                "times_npllm": {name: dict(zip(("low", "median", "high"), m.ratio(name))) for name in m.others},
            }
            for m in measurements
        ],
    }
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1).encode())


def draw(path, measurements):
    """Plot the time of the others relative to npllm's for each job, on a logarithmic scale."""
    shown = [m for m in measurements if m.others]
    figure = Figure(figsize=(9, 1.6 + 0.28 * len(shown)), layout="constrained")
    axes = figure.subplots()
    groups = [  # name in the legend, colour, marker, offset within the job's row, and the contenders
        ("baseline", "C0", "o", -0.15, lambda m: [name for name in m.others if name != LOOPS][:1]),
        ("further baselines", "C2", "D", 0.15, lambda m: [name for name in m.others if name != LOOPS][1:]),
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
    axes.set_xlabel("time relative to npllm: right of the line npllm is faster")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)


def markdown(content):
    """The Markdown table of a results.json: npllm's time, and the time of the others relative to it."""
    rows = []
    for job in content["jobs"]:
        ratios = {name: found["median"] for name, found in job["times_npllm"].items()}
        peaks = {name: f" ({_mebibytes(number)})" for name, number in job["peak_bytes"].items()}
        baselines = ", ".join(
            f"{name} {_bold_loss(ratio)}{peaks.get(name, '')}" for name, ratio in ratios.items() if name != LOOPS
        )
        baselines += "".join(f", {name} not installed" for name in job.get("absent", []))
        loops = _bold_loss(ratios[LOOPS]) if LOOPS in ratios else ""
        seconds = statistics.median(job["seconds"][OURS])
        speed = f" ({_three_digits(job['tokens'] / seconds)} tokens/s)" if "tokens" in job else ""
        own = f"{_duration(seconds)}{speed}{peaks.get(OURS, '')}"
        rows.append([job["job"], job["size"], own, baselines, loops])
    return markdown_table(["job", "size", "npllm", "baseline, relative to npllm", LOOPS], rows)


def speed_table(content):
    """The Markdown table of jobs with a limit: npllm's time, its share of the limit, and the others, losses in bold."""
    rows = []
    for job in content["jobs"]:
        if "limit" not in job or job["job"].startswith("idea: "):
            continue
        seconds = statistics.median(job["seconds"][OURS])
        others = ", ".join(
            f"{name} {_bold_loss(found['median'])}" for name, found in job["times_npllm"].items() if name != LOOPS
        )
        share = f"{_percent(job['limit']['seconds'] / seconds)} of {job['limit']['kind']}"
        rows.append([job["job"], job["size"], _duration(seconds), share, others])
    return markdown_table(["job", "size", "npllm", "share of the limit", "others, relative to npllm"], rows)


def growth_table(content):
    """The Markdown table of the series: sizes, and the slope of time and of peak memory over the larger sizes."""
    rows = []
    for (name, axis), jobs in series(content["jobs"]).items():
        sizes = [job["growth"][2] for job in jobs]
        others = [other for other in jobs[-1]["times_npllm"] if all(other in job["seconds"] for job in jobs)]
        for who in [OURS, *others]:
            slopes = [_slope(jobs, who, _median_seconds), _slope(jobs, who, _peak)]
            if None not in slopes[:1]:
                rows.append([name, f"{axis} = {sizes[0]:,} … {sizes[-1]:,}", who, *map(_slope_text, slopes)])
    return markdown_table(["series", "sizes", "contender", "slope of time", "slope of memory"], rows)


def memory_table(content):
    """The Markdown table of peak memory in training steps, relative to npllm's."""
    rows = []
    for job in content["jobs"]:
        own = job["peak_bytes"].get(OURS)
        if job["job"] == "GPT training step" and own:
            others = ", ".join(
                f"{name} {_mebibytes(peak)} ({_bold_loss(peak / own)})"
                for name, peak in job["peak_bytes"].items()
                if name != OURS
            )
            rows.append([job["job"], job["size"], _mebibytes(own), others])
    return markdown_table(["job", "size", "npllm", "others (relative to npllm)"], rows)


def ideas_table(content):
    """The Markdown table of ideas.py: the time of each idea, and how many times as fast it is as the one above."""
    rows = []
    for job in content["jobs"]:
        if not job["job"].startswith("idea: "):
            continue
        times = {name: statistics.median(seconds) for name, seconds in job["seconds"].items()}
        ideas = [name for name in times if name not in (OURS, "PyTorch")]
        label = f"{job['job'].removeprefix('idea: ')}, {job['size']}"
        for above, name in zip([None, *ideas], ideas):
            gain = "" if above is None else _three_digits(times[above] / times[name])
            rows.append([label if above is None else "", name, _duration(times[name]), gain])
        for name in (OURS, "PyTorch"):
            if name in times:
                rows.append(["", f"{name}: times as fast as the first", _duration(times[name]),
                             _three_digits(times[ideas[0]] / times[name])])  # fmt: skip
    return markdown_table(["function", "form", "time", "times as fast as above"], rows)


def left_out(content):
    """A list in Markdown of the contenders that could not run, and why."""
    reasons = {f"{name}: {reason}" for job in content["jobs"] for name, reason in job.get("skipped", {}).items()}
    return "\n".join(f"- {line}" for line in sorted(reasons))


def _median_seconds(job, who):
    return statistics.median(job["seconds"][who]) if who in job["seconds"] else None


def _peak(job, who):
    return job["peak_bytes"].get(who)


def _slope(jobs, who, of):
    return fit_slope(*upper_half(*points(jobs, who, of)))


def _slope_text(slope):
    return "" if slope is None else f"{slope:.2f}"


def _percent(share):
    return f"{100 * share:.0f}%" if share >= 0.1 else f"{100 * share:.1f}%"


def _bold_loss(ratio):
    """A ratio; below 1 npllm is slower, and the number is set in bold."""
    return _three_digits(ratio) if ratio >= 1 else f"**{ratio:.2f}**"


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

"""`python -m benchmarks.lines`: where the time of a forward pass goes, line by line of the formula.

Printed are the plain formulas of attention and of a GPT block (plain_numpy.py), and the same block as npllm computes it
today. The time of a line includes the functions that it calls. “Pages” are page faults: each is 4 KiB of memory that
the operating system hands out, and must fill with zeros, because an array is new.
"""

import argparse
import ast
import inspect
import json
import statistics
import sys
import textwrap
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from benchmarks import plain_numpy
from npllm.models import TransformerBlock
from npllm.utils.files import atomic_write
from npllm.utils.markdown import markdown_table


@dataclass
class Line:
    """A statement of a function: its first line of text, the seconds of one call, the page faults."""

    text: str
    seconds: float
    pages: int


def profile(function, *arguments, repeats=5, clock=time.perf_counter):
    """The lines of a function with the median of their times in `repeats` calls, after one to warm up."""
    function(*arguments)
    target = inspect.unwrap(getattr(function, "__func__", function))
    statements = _statements(target)
    runs = [_run(function, arguments, target.__code__, clock) for _ in range(repeats)]
    lines = []
    for text, numbers in statements.values():
        seconds = [sum(run[n][0] for n in numbers if n in run) for run in runs]
        pages = [sum(run[n][1] for n in numbers if n in run) for run in runs]
        if any(n in run for run in runs for n in numbers):
            lines.append(Line(text, statistics.median(seconds), int(statistics.median(pages))))
    return lines


def _statements(function):
    """By first line, the text of each simple statement and its line numbers in the file."""
    source, first = inspect.getsourcelines(function)
    tree = ast.parse(textwrap.dedent("".join(source)))
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            begin, end = node.lineno + first - 1, node.end_lineno + first - 1
            found[begin] = (source[node.lineno - 1].strip(), range(begin, end + 1))
    return dict(sorted(found.items()))


def _run(function, arguments, code, clock):
    """One call: by line number, the seconds and the page faults until the next line of the function began."""
    spent, current = {}, []

    def settle():
        now, faults = clock(), _page_faults()
        if current:
            line, since, before = current
            seconds, pages = spent.get(line, (0.0, 0))
            spent[line] = (seconds + now - since, pages + faults - before)

    def inside(frame, event, argument):
        settle()
        current[:] = [] if event == "return" else [frame.f_lineno, clock(), _page_faults()]
        return inside

    previous = sys.gettrace()
    sys.settrace(lambda frame, event, argument: inside if frame.f_code is code else None)
    try:
        function(*arguments)
    finally:
        sys.settrace(previous)
    return spent


def _page_faults():
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def profiles(batch_size=2, length=512, d_model=768, num_heads=12, repeats=5):
    """By title, the lines of attention and of the block, plain and as npllm computes it."""
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, num_heads, length, d_model // num_heads), dtype=np.float32)
    x = rng.standard_normal((batch_size, length, d_model), dtype=np.float32)
    block = TransformerBlock(d_model, length, 0.0, num_heads, rng=rng)
    state = block.state_dict()
    h = block.ln_1(x)
    shape = f"{batch_size} × {length:,} × {d_model}, {num_heads} heads"
    return {
        f"plain attention, {num_heads} heads × {length:,} × {d_model // num_heads}": profile(
            plain_numpy.attention, q, k, v, repeats=repeats
        ),
        f"plain GPT block, {shape}": profile(plain_numpy.gpt_block, x, state, num_heads, repeats=repeats),
        f"npllm's TransformerBlock.forward, {shape}": profile(block.forward, x, repeats=repeats),
        f"npllm's CausalSelfAttention.forward, {shape}": profile(block.attn.forward, h, repeats=repeats),
    }


def markdown(content):
    """The tables of the JSON file; lines below half a percent are added up."""
    parts = []
    for title, lines in content["profiles"].items():
        total = sum(line["seconds"] for line in lines)
        shown = [line for line in lines if line["seconds"] >= 0.005 * total]
        rows = [[f"`{x['text']}`", *_numbers(x["seconds"], total), f"{x['pages']:,}"] for x in shown]
        rest = total - sum(line["seconds"] for line in shown)
        if len(shown) < len(lines):
            rows.append(["other lines", *_numbers(rest, total), ""])
        rows.append(["all", *_numbers(total, total), f"{sum(line['pages'] for line in lines):,}"])
        parts.append(f"{title}:\n\n{markdown_table(['line', 'ms', 'share', 'pages'], rows)}")
    return "\n\n".join(parts)


def _numbers(seconds, total):
    return f"{1e3 * seconds:.2f}", f"{100 * seconds / total:.0f}%"


def main(arguments=None):
    """Measure, print, and write the JSON file if one is named."""
    from benchmarks.machine import machine
    from benchmarks.report import show_machine

    parser = argparse.ArgumentParser(prog="python -m benchmarks.lines", description=__doc__.split("\n")[0])
    parser.add_argument("--length", metavar="T", type=int, default=512, help="positions (default: 512)")
    parser.add_argument("--repeats", metavar="N", type=int, default=5, help="calls of each function (default: 5)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers into this file")
    options = parser.parse_args(arguments)
    console, found = Console(highlight=False), machine()
    show_machine(console, found)
    measured = profiles(length=options.length, repeats=options.repeats)
    for title, lines in measured.items():
        total = sum(line.seconds for line in lines)
        console.print(Text(f"\n{title}: {1e3 * total:.2f} ms", "bold"), soft_wrap=True)
        for line in lines:
            share = f"{1e3 * line.seconds:9.2f} ms {100 * line.seconds / total:4.0f}% {line.pages:7,} pages   "
            console.print(Text(share + line.text), soft_wrap=True)
    if options.json is not None:
        content = {"machine": found, "profiles": {title: [*map(asdict, lines)] for title, lines in measured.items()}}
        with atomic_write(options.json) as file:
            file.write(json.dumps(content, indent=1).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())

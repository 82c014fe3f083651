"""`npllm verify`: the largest differences between npllm and PyTorch, for every function, layer and model.

With --model: between npllm and transformers, for one published model, layer by layer.
"""

import argparse
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

import npllm
from npllm.cli.options import add_threads_option, use_threads
from npllm.models.catalog import find_model
from npllm.utils.gguf_file import is_gguf
from npllm.utils.markdown import markdown_table
from npllm.utils.terminal import printable

INSTALL = '  python -m pip install -e ".[test]" -c .ci/constraints.txt'
ROOT = Path(npllm.__file__).parent.parent  # of the checkout; of site-packages, if npllm is installed from a wheel
HEADER = ["function, layer or model", "float32 output", "float32 gradients", "float64 output", "float64 gradients", ""]
TOLERANCE = (
    "|a − b| ≤ r |b| + s · max(1, largest |b|): r = 1e-5, s = 1e-6 in float32, 1e-10 and 1e-12 in float64; ten times "
    "that for layers in float32"
)


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("verify", help="compare every function and layer, or a model, with PyTorch")
    command.add_argument(
        "--model", metavar="MODEL",
        help="compare this model with transformers: a folder, a GGUF file or a name of `npllm models`",
    )  # fmt: skip
    add_threads_option(command)
    command.set_defaults(run=run)


def run(console: Console, options: argparse.Namespace) -> int:
    """Print the table of differences; return 0 if all are within tolerance, else 1.

    PyTorch, for --model transformers too, and a checkout of npllm are needed: torch_ref/ and tests/equivalence/ are not
    in the wheel.
    """
    if not (ROOT / "tests" / "equivalence" / "verify.py").is_file():
        raise ValueError(
            f"npllm verify needs a checkout of npllm, because the PyTorch reference is not part of the installed "
            f"package. Clone the repository and run in its folder:\n{INSTALL}\n  npllm verify"
        )
    path = None if options.model is None else find_model(options.model)
    needed = ["torch"] if path is None else ["torch", "transformers"] + ["accelerate"] * is_gguf(path)
    for package in needed:
        if find_spec(package) is None:
            name = "PyTorch" if package == "torch" else package
            raise ValueError(f"npllm verify needs {name}, which is not installed. In {ROOT} run:\n{INSTALL}")
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    if path is not None:
        from tests.equivalence.published import rows as rows_of_model

        with use_threads(console, options.threads):
            return show_model(console, str(path), rows_of_model(path))
    from tests.equivalence.verify import rows

    with use_threads(console, options.threads):
        return show_equivalence(console, rows())


def show_model(console: Console, name: str, rows: Iterable[Any]) -> int:
    """Print the rows of `tests.equivalence.published` as a table; return 0 if all are within tolerance, else 1."""
    table = Table(title="Difference from transformers", title_justify="left", show_edge=False, caption_justify="left")
    table.add_column("step")
    for column in ("difference", "of", "relative", "tolerance"):
        table.add_column(column, justify="right")
    table.add_column("")
    rows = list(rows)
    for row in rows:
        numbers = (_scientific(number) for number in (row.difference, row.scale, row.relative, row.tolerance))
        result = Text("equal", style="green") if row.ok else Text("differs", style="bold red")
        table.add_row(Text(row.name), *numbers, result)
    console.print(table)
    for row in rows:
        if row.detail:
            console.print(Text(printable(row.detail), style="" if row.ok else "red"), soft_wrap=True)
    different = [row.name for row in rows if not row.ok]
    summary = f"{len(rows) - len(different)} of {len(rows)} steps of {name} equal transformers within tolerance"
    console.print(Text(summary + f"; different: {', '.join(different)}" * bool(different)), soft_wrap=True)
    return 1 if different else 0


def show_equivalence(console: Console, rows: Iterable[Any]) -> int:
    """Print the rows of `tests.equivalence.verify` as a table; return 0 if all are within tolerance, else 1."""
    table = Table(title="Largest absolute difference from PyTorch", title_justify="left", show_edge=False)
    table.add_column(HEADER[0], overflow="fold")
    for name in HEADER[1:-1]:
        table.add_column(name.replace(" ", "\n"), justify="right")
    table.add_column(HEADER[-1])
    rows = list(rows)
    lines = equivalence_lines(rows)
    for *cells, result in lines:
        table.add_row(*map(Text, cells), Text(result, style="green" if result == "equal" else "bold red"))
    console.print(table)
    for row in rows:
        if not row.ok:
            reason = row.problem or f"{row.tolerance_ratio:.3g} times the tolerance"
            console.print(Text(f"{row.name}, {row.dtype}: {reason}", style="red"), soft_wrap=True)
    num_equal = sum(line[-1] == "equal" for line in lines)
    console.print(
        f"{num_equal} of {len(lines)} functions, layers and models equal PyTorch within tolerance, {TOLERANCE}",
        highlight=False,
    )
    return 0 if num_equal == len(lines) else 1


def equivalence_lines(rows: Iterable[Any]) -> list[list[str]]:
    """The cells below HEADER: one line for both rows, float32 and float64, of a function, layer or model."""
    lines = []
    for name, group in groupby(rows, key=lambda row: row.name):
        pair = list(group)
        numbers = [_scientific(number) for row in pair for number in (row.output, row.gradients)]
        lines.append([name, *numbers, "equal" if all(row.ok for row in pair) else "differs"])
    return lines


def equivalence_table(rows: Iterable[Any]) -> str:
    """The same table in Markdown."""
    return markdown_table(HEADER, equivalence_lines(rows))


def _scientific(number: float | None) -> str:
    """1.2e-07; "–" for None, which stands for no gradients."""
    return "–" if number is None else f"{number:.1e}" if number else "0"

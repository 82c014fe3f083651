"""`npllm verify`: the table of how far every function, layer and model is from PyTorch."""

import argparse
import importlib.util
import sys
from itertools import groupby
from pathlib import Path

from rich.table import Table
from rich.text import Text

import npllm
from npllm.utils.markdown import markdown_table, replace_section

INSTALL = (
    'In the folder of a checkout run:\n  python -m pip install -e ".[test]" -c .ci/constraints.txt && npllm verify'
)
HEADER = ["function, layer or model", "float32 output", "float32 gradients", "float64 output", "float64 gradients", ""]


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("verify", help="compare every function and layer with PyTorch")
    command.set_defaults(run=run)


def run(console, options: argparse.Namespace) -> int:
    """Print the table of differences."""
    root = Path(npllm.__file__).parent.parent
    if not (root / "tests" / "equivalence" / "verify.py").is_file():
        raise ValueError(f"npllm verify needs a checkout of npllm, and {root} is none. {INSTALL}")
    if importlib.util.find_spec("torch") is None:
        raise ValueError(f"npllm verify needs PyTorch, which is not installed. {INSTALL}")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    from tests.equivalence.verify import rows

    return show_equivalence(console, rows())


def show_equivalence(console, rows, readme=None):
    """Print a line for every function, layer and model; return 0 if all are within tolerance, else 1.

    `rows` are those of tests.equivalence.verify. `readme` names a file whose section "verify" becomes the table.
    """
    table = Table(title="Largest absolute difference from PyTorch", title_justify="left", show_edge=False)
    table.add_column(HEADER[0], overflow="fold")
    for name in HEADER[1:-1]:
        table.add_column(name.replace(" ", "\n"), justify="right")
    table.add_column(HEADER[-1])
    lines, failed = [], []
    for name, pair in groupby(rows, key=lambda row: row.name):
        pair = list(pair)
        wrong = [row for row in pair if not row.ok]
        failed += wrong
        cells = [name, *(cell for row in pair for cell in (_error(row.output), _error(row.gradients)))]
        table.add_row(*map(Text, cells), Text("differs", style="bold red") if wrong else Text("equal", style="green"))
        lines.append([*cells, "differs" if wrong else "equal"])
    console.print(table)
    for row in failed:
        reason = row.problem or f"{row.tolerance_ratio:.3g} times the tolerance"
        console.print(Text(f"{row.name}, {row.dtype}: {reason}", style="red"), soft_wrap=True)
    console.print(
        f"{len(lines) - len({row.name for row in failed})} of {len(lines)} functions, layers and models equal PyTorch "
        "within tolerance, |a − b| ≤ r |b| + s · max(1, largest |b|): r = 1e-5, s = 1e-6 in float32, 1e-10 and 1e-12 "
        "in float64; ten times that for layers in float32",
        highlight=False,
    )
    if readme is not None:
        replace_section(readme, "verify", markdown_table(HEADER, lines))
    return 1 if failed else 0


def _error(number):
    return "–" if number is None else f"{number:.1e}" if number else "0"

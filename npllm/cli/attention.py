"""`npllm attention`: the variants of attention, their parameters and the size of their key-value cache."""

import argparse
from typing import Any

LENGTHS = (1024, 4096)


def add_parser(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("attention", help="the variants of attention: parameters and size of the KV cache")
    command.set_defaults(run=run)


def run(console: Any, options: argparse.Namespace) -> int:
    """Print the table."""
    from rich.table import Table
    from rich.text import Text

    from npllm.experiments.attention_variants import D_MODEL, NUM_HEADS

    header, rows = cache_table()
    title = f"One layer, d_model {D_MODEL}, {NUM_HEADS} heads, float32"
    table = Table(title=title, title_justify="left", show_edge=False)
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index < 2 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
    return 0


def cache_table() -> tuple[list[str], list[list[str]]]:
    """The header and the rows of the table, as text."""
    from npllm.experiments.attention_variants import VARIANTS, measure_cache

    header = ["variant", "file", "parameters", *(f"bytes per token after {length:,}" for length in LENGTHS)]
    rows = []
    for variant in VARIANTS:
        parameters, bytes_per_token = measure_cache(variant, LENGTHS)
        rows.append([variant.name, variant.file, f"{parameters:,}", *(f"{number:,.0f}" for number in bytes_per_token)])
    return header, rows

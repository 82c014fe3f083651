"""`npllm attention`: the forms of attention side by side, and what each must remember of a text that it writes."""

import argparse

import numpy as np
from rich.table import Table
from rich.text import Text

from npllm.experiments.attention_variants import D_MODEL, FORMS, NUM_HEADS
from npllm.utils.markdown import markdown_table, replace_section

LENGTHS, PIECE = (1024, 4096), 512
HEADER = ["form", "file in attention/", "parameters", *(f"bytes a token, {length:,} read" for length in LENGTHS)]


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("attention", help="the variants of attention: parameters and size of the KV cache")
    command.set_defaults(run=run)


def run(console, options: argparse.Namespace) -> int:
    """Print the table."""
    return show_family(console)


def show_family(console, readme=None):
    """Read a text with each form and print how many bytes its past holds for each token; return the exit status 0.

    `readme` names a file in which the section "family" is replaced by the table.
    """
    table = Table(title=f"One layer, {D_MODEL} wide, {NUM_HEADS} heads, float32", title_justify="left", show_edge=False)
    for index, name in enumerate(HEADER):
        table.add_column(name, justify="left" if index < 2 else "right", overflow="fold")
    lines = []
    for form in FORMS:
        parameters, remembered = measure(form)
        cells = [form.name, form.file, f"{parameters:,}", *(f"{number:,.0f}" for number in remembered)]
        lines.append(cells)
        table.add_row(*map(Text, cells))
    console.print(table)
    if readme is not None:
        replace_section(readme, "family", markdown_table(HEADER, lines))
    return 0


def measure(form, lengths=LENGTHS):
    """How many numbers the layer learns, and after each length of text the bytes of its past for each token."""
    layer = form.layer(**form.config(max(lengths)), rng=np.random.default_rng(0))
    past, remembered = layer.new_kv_cache(), []
    x = np.random.default_rng(0).standard_normal((1, max(lengths), layer.o_proj.weight.shape[0]), dtype=np.float32)
    for length in lengths:
        while past.length < length:
            end = min(past.length + PIECE, length)
            layer(x[:, past.length : end], past)
        remembered.append(past.nbytes / length)
    return layer.num_parameters(), remembered

"""Output in the terminal: section headings, matrices, and tokens in colours with visible whitespace.

Everything is printed to a rich Console, which prints no colours where there is no terminal. So no information is given
by colour alone.
"""

from collections.abc import Sequence

import numpy as np
from rich.columns import Columns
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

TOKEN_STYLES = ["black on #a5d8ff", "black on #ffd8a8", "black on #b2f2bb", "black on #fcc2d7", "black on #ffec99"]
VISIBLE = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"}


def print_section(console: Console, number: int, title: str, shapes: str, explanation: str) -> None:
    """Print the heading of a section: number and title, the shapes of input and output, and an explanation."""
    console.print()
    console.print(Rule(Text(f"{number}  {title}", style="bold"), align="left", style="dim"))
    console.print(Text(shapes, style="bold cyan"))
    console.print(Text(explanation), soft_wrap=False)


def visible(token: str) -> str:
    """A token with whitespace replaced by symbols and other unprintable characters by their escape sequence."""
    return "".join(VISIBLE.get(character) or printable(character) for character in token)


def printable(text: str) -> str:
    """A text with every control character but the line break replaced by its escape sequence."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def readable(token: bytes) -> str:
    """The text of a token's bytes; the bytes in hexadecimal if they are only a part of a character."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "".join(f"<{byte:02x}>" for byte in token)


def readable_tokens(tokenizer, ids: Sequence[int]) -> list[str]:
    """The text of each id's token, see `readable`."""
    return [readable(tokenizer.decode_bytes([token_id])) for token_id in ids]


def coloured_tokens(tokens: Sequence[str]) -> Text:
    """Tokens side by side, each with a background colour and followed by a bar."""
    text = Text()
    for index, token in enumerate(tokens):
        text.append(visible(token), style=TOKEN_STYLES[index % len(TOKEN_STYLES)])
        text.append("│", style="dim")
    return text


def token_grid(tokens: Sequence[str], ids: Sequence[int]) -> Columns:
    """Tokens with their ids below, as many in a row as fit into the terminal."""
    cells = [
        Text.assemble(coloured_tokens([token]), "\n", (str(token_id), "dim")) for token, token_id in zip(tokens, ids)
    ]
    return Columns(cells, padding=(0, 1))


def matrix(
    array: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    corner: str = "",
    decimals: int = 2,
    shade: bool = False,
) -> Table:
    """A matrix as a table with named rows and columns; `shade` darkens the background of larger numbers in [0, 1]."""
    table = Table(corner, show_edge=False)
    for column in columns:
        table.add_column(Text(column), justify="right", overflow="fold")
    for name, row in zip(rows, np.asarray(array)):
        cells = [Text(f"{number:.{decimals}f}", style=_background(number) if shade else "") for number in row]
        table.add_row(Text(name, style="bold"), *cells)
    return table


def vector(numbers: Sequence[float]) -> Text:
    """A few numbers in one row, with two decimals."""
    return Text(" ".join(f"{number:5.2f}" for number in numbers))


def shape(array: np.ndarray) -> str:
    """The shape (4, 8) as "4 × 8"; that of a scalar as "scalar"."""
    return " × ".join(str(size) for size in np.shape(array)) or "scalar"


def _background(weight: float) -> str:
    level = int(255 - 160 * min(max(float(weight), 0.0), 1.0))
    return f"black on #{level:02x}{level:02x}ff"

"""How the lab shows things in a terminal: stations of the walk, matrices, tokens in colours with their blanks visible.

Everything is printed to a rich Console, which leaves the colours out where there is no terminal; so nothing here says
by colour alone what it has to say.
"""

import numpy as np
from rich.columns import Columns
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

TOKEN_STYLES = ["black on #a5d8ff", "black on #ffd8a8", "black on #b2f2bb", "black on #fcc2d7", "black on #ffec99"]
VISIBLE = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"}


def station(console, number, title, arrow, explanation):
    """Print the head of a station: its number and name, the shapes at the arrow, and what happens here."""
    console.print()
    console.print(Rule(Text(f"{number}  {title}", style="bold"), align="left", style="dim"))
    console.print(Text(arrow, style="bold cyan"))
    console.print(Text(explanation), soft_wrap=False)


def visible(token):
    """A token as a person can see it: blanks as marks, other unprintable characters as their escape."""
    return "".join(VISIBLE.get(character) or printable(character) for character in token)


def printable(text):
    """A text as a terminal may print it: line breaks stay, other control characters become their escape."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def readable(token):
    """The text of a token's bytes; if it is part of a character, the bytes in hexadecimal."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "".join(f"<{byte:02x}>" for byte in token)


def readable_tokens(tokenizer, ids):
    """The text of each id's token, see `readable`."""
    return [readable(tokenizer.decode_bytes([token_id])) for token_id in ids]


def pieces(tokens):
    """Tokens side by side, each on a ground of its own colour and with a bar after it."""
    text = Text()
    for index, token in enumerate(tokens):
        text.append(visible(token), style=TOKEN_STYLES[index % len(TOKEN_STYLES)])
        text.append("│", style="dim")
    return text


def token_grid(tokens, ids):
    """Tokens with their ids below, as many in a row as fit."""
    cells = [Text.assemble(pieces([token]), "\n", (str(token_id), "dim")) for token, token_id in zip(tokens, ids)]
    return Columns(cells, padding=(0, 1))


def matrix(array, rows, columns, corner="", decimals=2, shade=False):
    """A matrix as a table with named rows and columns; `shade` darkens the ground of larger numbers in [0, 1]."""
    table = Table(corner, show_edge=False)
    for column in columns:
        table.add_column(Text(column), justify="right", overflow="fold")
    for name, row in zip(rows, np.asarray(array)):
        cells = [Text(f"{number:.{decimals}f}", style=_ground(number) if shade else "") for number in row]
        table.add_row(Text(name, style="bold"), *cells)
    return table


def vector(numbers):
    """A few numbers in a row, as text."""
    return Text(" ".join(f"{number:5.2f}" for number in numbers))


def shape(array):
    """(4, 8) as "4 × 8"."""
    return " × ".join(str(size) for size in np.shape(array)) or "one number"


def _ground(weight):
    level = int(255 - 160 * min(max(float(weight), 0.0), 1.0))
    return f"black on #{level:02x}{level:02x}ff"

import io

import numpy as np
from rich.console import Console

from npllm.utils.terminal import coloured_tokens, matrix, printable, readable, shape, token_grid, vector, visible


def console(width=100):
    """A console that prints into memory; its `file` holds the output."""
    return Console(file=io.StringIO(), width=width)


def printed(item, **options):
    out = io.StringIO()
    Console(file=out, width=80, **options).print(item)
    return out.getvalue()


def test_whitespace_and_control_characters_are_visible():
    assert visible(" a\n\tb\r\x00\x1b[31m\u200b") == "·a⏎⇥b␍\\x00\\x1b[31m\\u200b"


def test_tokens_are_separated_without_colours_too():
    assert printed(coloured_tokens(["Hi", " you", "\n"])) == "Hi│·you│⏎│\n"
    assert "\x1b[" in printed(coloured_tokens(["Hi"]), force_terminal=True, color_system="truecolor")


def test_markup_in_a_token_is_text():
    assert printed(coloured_tokens(["[red]", "[/red]"])) == "[red]│[/red]│\n"


def test_token_grid_has_ids_below_tokens():
    lines = printed(token_grid(["a", "bb", "c"], [1, 22, 3])).split("\n")
    assert [line.split() for line in lines[:2]] == [["a│", "bb│", "c│"], ["1", "22", "3"]]


def test_token_grid_is_complete_in_a_narrow_terminal():
    ids = [50_000 + i for i in range(30)]
    out = io.StringIO()
    Console(file=out, width=20).print(token_grid(["word"] * 30, ids))
    assert [int(cell) for line in out.getvalue().split("\n")[1::2] for cell in line.split()] == ids


def test_a_token_that_is_part_of_a_character_is_shown_as_bytes():
    assert readable("né".encode()) == "né"
    assert readable("é".encode()[:1]) == "<c3>"


def test_printable_text_keeps_line_breaks_and_no_other_control_character():
    assert printable("a b\nc\x1b[31m\x07\u202e") == "a b\nc\\x1b[31m\\x07\\u202e"


def test_matrix_vector_and_shape():
    text = printed(matrix(np.array([[1.0, 0.25]]), ["row"], ["x", "y"], shade=True))
    assert "1.00" in text
    assert "0.25" in text
    assert vector([1, -0.5]).plain == " 1.00 -0.50"
    assert shape(np.zeros((2, 3))) == "2 × 3"
    assert shape(1.0) == "scalar"

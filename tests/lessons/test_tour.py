import io
import re

import numpy as np
import pytest
from rich.console import Console

from npllm.lessons.tour.figures import attention, draw_figures
from npllm.lessons.tour.run import SECTIONS, first_words, run_tour
from npllm.tokenizers import GPT2Tokenizer, split_words
from npllm.utils.plots import save_figure

TEXT = (
    "The ferry left at nine, and nobody on it spoke. She counted the lamps on the far side of the water.\n"
    "“How many?” he asked. “Eleven,” she said; “there were twelve.” And the ferry went on, and the lamps went on.\n"
) * 5


def tour(text=TEXT, width=100, **options):
    """The state after the tour, and what it printed."""
    out = io.StringIO()
    state = run_tour(Console(file=out, width=width), text, **{"num_steps": 3, **options})
    return state, out.getvalue()


@pytest.fixture(scope="module")
def story_tour():
    """A tour of the shipped story."""
    return tour(text=None, num_steps=100)


def test_every_section_has_a_heading_in_order(story_tour):
    _, printed = story_tour
    heads = [line.split()[0] for line in printed.split("\n") if re.match(r"\d+  \S.* ───", line)]
    assert heads == [str(number) for number in range(1, len(SECTIONS) + 1)]


def test_printed_numbers_are_those_of_the_library(story_tour, story):
    _, printed = story_tour
    assert f"{len(story):,} characters" in printed
    assert f"{len(split_words(story)):,} tokens" in printed
    assert f"{len(GPT2Tokenizer.load().encode(story)):,} ids below 50,257" in printed
    assert "exactly the same vectors" in printed.replace("\n", " ")
    assert "naive [0.0, nan], stable [0.5, 0.5]" in printed


def test_the_loss_falls_and_the_trained_model_continues_the_prompt(story_tour):
    state, printed = story_tour
    assert len(state.losses) == 100
    assert abs(state.losses[0] - np.log(512)) < 0.5, "untrained, it is near the uniform baseline"
    assert np.mean(state.losses[-10:]) < state.losses[0] - 1.5
    assert f"{state.losses[0]:.3f}" in printed
    assert len(state.continuation) > 30
    assert state.continuation.split()[0] in printed


def test_equal_seeds_print_equal_tours():
    first = tour()[1]
    assert tour()[1] == first
    assert tour(seed=1)[1] != first


def test_a_prompt_with_words_that_are_not_in_the_text():
    _, printed = tour(prompt="Zebras <|endoftext|> quagga 日本")
    assert "quagga" in printed
    assert "<|unk|>" in printed


def test_a_prompt_of_one_character():
    _, printed = tour(prompt="x")
    assert "row 0, column 0" in printed


ODD_TEXTS = {  # each once led to a traceback, a warning, or control characters on the terminal
    "without whitespace": [chr(0x4E00 + i) for i in range(50)],
    "joined emoji": ["😀", "👩", "\u200d", "\ufe0f", "🏽", "\u20e3", "1", " "],
    "control characters": ["\x1b[31m", "red", "\x1b[0m", "\x07", " ", "bell", "\u202e"],
    "markup": ["[bold]", "x", "[/bold]", " ", "[/]", "\\", ":smile:", "[link=http://x]"],
}


@pytest.mark.parametrize("parts", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_unusual_texts(parts, tmp_path):
    text = "".join(parts[i] for i in np.random.default_rng(0).integers(0, len(parts), 1500))
    state, printed = tour(text, width=60)
    assert all(character.isprintable() or character == "\n" for character in printed)
    figure = attention(state)  # of all figures the one that shows tokens
    save_figure(figure, tmp_path / "attention.png")


@pytest.mark.parametrize("width", [80, 40])
def test_no_line_is_wider_than_the_terminal(width):
    _, printed = tour(width=width)
    assert max(map(len, printed.split("\n"))) <= width


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "Too short."}, "the text has 9 characters besides whitespace; .* needs at least 400"),
        ({"text": "abcdefgh" * 200}, "byte pair encoding turns it into 1 tokens; the tour needs at least 100"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"prompt": " \n"}, "prompt is ' .n'; it must have at least one character besides whitespace"),
        ({"num_steps": 0}, "num_steps is 0; it must be at least 1"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        tour(**options)


def test_first_words_are_those_of_the_first_long_line():
    assert first_words("Title\n\n" + "word " * 20) == " ".join(["word"] * 7)
    assert first_words("short\nlonger line") == "longer line"
    assert first_words("天" * 500) == "天" * 60


def test_figures(story_tour, tmp_path):
    state, _ = story_tour
    paths = draw_figures(state, tmp_path / "new" / "figures")
    assert [path.name for path in paths] == ["merges.png", "windows.png", "positions.png", "attention.png", "loss.png"]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 10_000

import io
import re

import numpy as np
import pytest
from rich.console import Console

from npllm.lessons.figures import draw_figures
from npllm.lessons.tour.walk import STATIONS, opening, tour
from npllm.tokenizers import GPT2Tokenizer, split_words

TEXT = (
    "The ferry left at nine, and nobody on it spoke. She counted the lamps on the far side of the water.\n"
    "“How many?” he asked. “Eleven,” she said; “there were twelve.” And the ferry went on, and the lamps went on.\n"
) * 5


def walk(text=TEXT, width=100, **options):
    out = io.StringIO()
    console = Console(file=out, width=width)
    return tour(console, text, **{"steps": 30, **options}), out.getvalue()


@pytest.fixture(scope="module")
def story_walk():
    return walk(text=None, steps=150)


def test_it_shows_every_station_in_order(story_walk):
    _, printed = story_walk
    heads = [line.split()[0] for line in printed.split("\n") if re.match(r"\d+  \S.* ───", line)]
    assert heads == [str(number) for number in range(1, len(STATIONS) + 1)]


def test_what_it_prints_is_what_the_library_gives(story_walk, story):
    _, printed = story_walk
    assert f"{len(story):,} characters" in printed
    assert f"{len(split_words(story)):,} tokens" in printed
    assert f"{len(GPT2Tokenizer.load().encode(story)):,} ids below 50,257" in printed
    assert "gives exactly the same" in printed
    assert "naive [0.0, nan], stable [0.5, 0.5]" in printed


def test_the_loss_falls_before_the_eyes(story_walk):
    found, printed = story_walk
    losses = found.found["losses"]
    assert len(losses) == 150
    assert abs(losses[0] - np.log(512)) < 0.5
    assert np.mean(losses[-10:]) < losses[0] - 2
    assert f"{losses[0]:.3f}" in printed
    assert len(found.found["continuation"]) > 30
    assert found.found["continuation"].split()[0] in printed


def test_the_seed_decides_everything():
    assert walk()[1] == walk()[1]
    assert walk(seed=1)[1] != walk()[1]


def test_another_text_and_a_prompt_with_words_it_does_not_know():
    _, printed = walk(prompt="Zebras <|endoftext|> quagga 日本")
    assert "quagga" in printed
    assert "<|unk|>" in printed


def test_a_prompt_of_one_character():
    _, printed = walk(prompt="x")
    assert "row 0, column 0" in printed


ODD_TEXTS = {  # each once led to a traceback, a warning, or control characters on the terminal
    "without blanks": [chr(0x4E00 + i) for i in range(50)],
    "joined emoji": ["😀", "👩", "\u200d", "\ufe0f", "🏽", "\u20e3", "1", " "],
    "control characters": ["\x1b[31m", "red", "\x1b[0m", "\x07", " ", "bell", "\u202e"],
    "markup": ["[bold]", "x", "[/bold]", " ", "[/]", "\\", ":smile:", "[link=http://x]"],
}


@pytest.mark.parametrize("parts", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_odd_texts(parts, tmp_path):
    text = "".join(parts[i] for i in np.random.default_rng(0).integers(0, len(parts), 1500))
    found, printed = walk(text, width=60, steps=3)
    draw_figures(found, tmp_path)
    assert all(character.isprintable() or character == "\n" for character in printed)


@pytest.mark.parametrize("width", [80, 40])
def test_nothing_is_wider_than_the_terminal(width):
    _, printed = walk(width=width)
    assert max(map(len, printed.split("\n"))) <= width


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "Too short."}, "the text has 9 characters besides blanks; .* needs at least 400"),
        ({"text": "abcdefgh" * 200}, "byte pair encoding makes 1 tokens of it; the tour needs at least 100"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"prompt": " \n"}, "the prompt is blank"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
    ],
)
def test_clear_errors(options, message):
    with pytest.raises(ValueError, match=message):
        walk(**options)


def test_opening_takes_the_first_long_line():
    assert opening("Title\n\n" + "word " * 20) == " ".join(["word"] * 7)
    assert opening("short\nlonger line") == "longer line"
    assert opening("天" * 500) == "天" * 60


def test_figures(story_walk, tmp_path):
    found, _ = story_walk
    paths = draw_figures(found, tmp_path / "new" / "figures")
    assert [path.name for path in paths] == ["merges.png", "windows.png", "positions.png", "attention.png", "loss.png"]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 10_000

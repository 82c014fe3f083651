"""The tour: one text passes through every part of npllm, from characters to generated tokens.

    text → tokens → ids → windows → batches → embeddings → scores → weights → context vectors → heads → GPT → text

`npllm tour` runs it. Its sections are in three files: text (chapter 2 of the book), attention (chapter 3) and learning
(chapters 4 and 5). Each section is a function that computes with the library, prints the result, and stores in the
TourState what later sections need.
"""

import numpy as np
from rich.console import Console

from npllm.lessons.tour import attention, learning, text
from npllm.lessons.tour.state import TourState
from npllm.utils import corpora

MIN_CHARACTERS = 400  # fewer are not enough to train on

SECTIONS = [*text.SECTIONS, *attention.SECTIONS, *learning.SECTIONS]


def run_tour(
    console: Console, text: str | None = None, prompt: str | None = None, num_steps: int = 1000, seed: int = 0
) -> TourState:
    """Print all sections for a text; return their results.

    text        None for the shipped story
    prompt      its tokens are shown in every section, and the trained GPT continues it; None for the text's first words
    num_steps   training steps of the GPT

    Raises ValueError for a text that is too short to train on, and for a prompt of whitespace only.
    """
    text = corpora.read("story") if text is None else text
    num_characters = len("".join(text.split()))
    if num_characters < MIN_CHARACTERS:
        raise ValueError(
            f"the text has {num_characters} characters besides whitespace; the tour trains a model on it and needs at "
            f"least {MIN_CHARACTERS}"
        )
    if prompt is not None and not prompt.strip():
        raise ValueError(f"prompt is {prompt!r}; it must have at least one character besides whitespace")
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; it must be at least 1")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be at least 0")
    prompt = first_words(text) if prompt is None else prompt
    state = TourState(console, text, prompt, np.random.default_rng(seed), num_steps, seed)
    for number, section in enumerate(SECTIONS, start=1):
        section(state, number)
    return state


def first_words(text: str, num_words: int = 7, num_characters: int = 60) -> str:
    """The first words of the text's first line with more than 60 characters (a title is shorter)."""
    lines = [line for line in text.split("\n") if line.strip()]
    line = next((line for line in lines if len(line) > 60), max(lines, key=len))
    return " ".join(line.split()[:num_words])[:num_characters]

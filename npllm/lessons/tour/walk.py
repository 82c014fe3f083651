"""The tour: one text walks through everything that npllm has, from characters to words that a model adds.

    text → tokens → ids → windows → batches → embeddings → scores → weights → context → heads → learning

`npllm tour` runs it. The stations stand in three files, tour_text, tour_attention and tour_learning; each is a
function that computes with the library, prints what came out, and leaves on the Walk what the next ones need.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console

from npllm.lessons.tour import attention as tour_attention
from npllm.lessons.tour import learning as tour_learning
from npllm.lessons.tour import text as tour_text
from npllm.utils import corpora

FEWEST_CHARACTERS = 400  # below this there is nothing to train on

STATIONS = [*tour_text.STATIONS, *tour_attention.STATIONS, *tour_learning.STATIONS]


@dataclass
class Walk:
    """What is carried from station to station."""

    console: Console
    text: str
    prompt: str
    rng: np.random.Generator
    steps: int
    seed: int
    found: dict[str, Any] = field(default_factory=dict)  # results by name, for later stations and for the figures


def tour(console, text=None, prompt=None, steps=1000, seed=0):
    """Walk a text (the shipped story unless given) through all stations; return the Walk.

    `prompt` is the line that is followed and continued, the beginning of the text unless given; `steps` is the length
    of the training at the end. Raises ValueError for a text too short to learn from and for a blank prompt.
    """
    text = corpora.read("story") if text is None else text
    num_characters = len("".join(text.split()))
    if num_characters < FEWEST_CHARACTERS:
        raise ValueError(
            f"the text has {num_characters} characters besides blanks; the tour trains a model on it and needs at "
            f"least {FEWEST_CHARACTERS}"
        )
    if prompt is not None and not prompt.strip():
        raise ValueError("the prompt is blank; it must have at least one word")
    if steps < 1:
        raise ValueError(f"steps is {steps}; it must be at least 1")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be at least 0")
    walk = Walk(console, text, opening(text) if prompt is None else prompt, np.random.default_rng(seed), steps, seed)
    for number, station in enumerate(STATIONS, start=1):
        station(walk, number)
    return walk


def opening(text, num_words=7, num_characters=60):
    """The first words of the text's first long line (a title is short), or its beginning where it has no blanks."""
    lines = [line for line in text.split("\n") if line.strip()]
    line = next((line for line in lines if len(line) > 60), max(lines, key=len))
    return " ".join(line.split()[:num_words])[:num_characters]

"""`npllm word2vec`: word vectors learn from a text, and each word says which others lie nearest."""

import argparse
import time

import numpy as np
from rich.table import Table
from rich.text import Text

from npllm.before_transformers.word2vec import CBOW, SkipGram
from npllm.cli.options import (
    add_seed_option,
    add_text_options,
    add_threads_option,
    integer_from,
    read_text,
    use_threads,
)
from npllm.experiments.word_vectors import WordCorpus, learn_words
from npllm.utils.terminal import printable

MODELS = {"skip-gram": SkipGram, "cbow": CBOW}
D_MODEL, NUM_NEIGHBOURS = 32, 6
NUM_WORDS, SHORTEST = 10, 4  # shown unless words are asked for: the most frequent ones of so many letters


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("word2vec", help="train word vectors and list the nearest neighbours of words")
    command.add_argument("words", metavar="WORD", nargs="*", help="words to look up (default: ten frequent ones)")
    add_text_options(command, "to learn from")
    command.add_argument("--model", choices=("skip-gram", "cbow"), default="skip-gram", help="default: skip-gram")
    command.add_argument("--steps", metavar="N", type=integer_from(1), default=1500, help="training steps")
    add_seed_option(command)
    add_threads_option(command)
    command.set_defaults(run=run)


def run(console, options: argparse.Namespace) -> None:
    """Train word vectors and print the neighbours."""
    text = read_text(options)
    with use_threads(console, options.threads):
        learn_and_show_words(console, text, options.words, options.model, options.steps, options.seed)


def learn_and_show_words(console, text, asked, model_name, num_steps, seed):
    """Learn a vector for every frequent word of a text; print the nearest neighbours of those asked for.

    Raises ValueError for a word that the text has not, or too rarely.
    """
    stream, rng = WordCorpus.from_text(text), np.random.default_rng(seed)
    ids = {word: index for index, word in enumerate(stream.words)}
    asked = [word.lower() for word in asked] or [w for w in stream.words if len(w) >= SHORTEST][:NUM_WORDS]
    if unknown := [word for word in asked if word not in ids]:
        raise ValueError(f"{unknown[0]!r} is not among the {len(ids):,} words that come often enough in the text")
    console.print(f"{len(stream.ids):,} words, {len(ids):,} different ones; {model_name}, {D_MODEL} numbers for each")
    model, start = MODELS[model_name](len(ids), D_MODEL, rng=rng), time.perf_counter()
    losses = list(learn_words(model, stream, num_steps, rng))
    seconds = time.perf_counter() - start
    console.print(f"{num_steps:,} steps in {seconds:.1f} s, loss {losses[0]:.3f} → {np.mean(losses[-20:]):.3f}")
    table = Table(show_edge=False)
    table.add_column("word")
    table.add_column("nearest, by the cosine of the angle between the vectors")
    for word in asked:
        nearest = zip(*model.nearest(ids[word], NUM_NEIGHBOURS))
        neighbours = "  ".join(f"{stream.words[index]} {cosine:.2f}" for index, cosine in nearest)
        table.add_row(Text(printable(word)), Text(printable(neighbours)))
    console.print(table)

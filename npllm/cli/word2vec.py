"""`npllm word2vec`: train word vectors on a text and print the most similar words."""

import argparse
import time

from rich.console import Console
from rich.table import Table
from rich.text import Text

from npllm.cli.options import (
    add_seed_option,
    add_text_options,
    add_threads_option,
    integer_from,
    read_text,
    use_threads,
)

D_MODEL = 32
NUM_SIMILAR = 6  # words in each row
NUM_WORDS, MIN_LETTERS = 10, 4  # without words on the command line: the most frequent ones of at least 4 letters


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("word2vec", help="train word vectors and list the most similar words")
    command.add_argument("words", metavar="WORD", nargs="*", help="words to look up (default: ten frequent ones)")
    add_text_options(command, "to train on")
    command.add_argument("--model", choices=("skip-gram", "cbow"), default="skip-gram", help="default: skip-gram")
    command.add_argument("--steps", metavar="N", type=integer_from(1), default=1500, help="training steps")
    add_seed_option(command)
    add_threads_option(command)
    command.set_defaults(run=run)


def run(console: Console, options: argparse.Namespace) -> None:
    """Train a vector for every frequent word of the text; print the words that are most similar to the given ones.

    Raises ValueError for a word that is not frequent enough in the text.
    """
    import numpy as np

    from npllm.before_transformers.word2vec import CBOW, SkipGram
    from npllm.experiments.word_vectors import WordCorpus, train_word2vec

    corpus, rng = WordCorpus.from_text(read_text(options)), np.random.default_rng(options.seed)
    ids = {word: index for index, word in enumerate(corpus.words)}
    words = [word.lower() for word in options.words] or [w for w in corpus.words if len(w) >= MIN_LETTERS][:NUM_WORDS]
    if unknown := [word for word in words if word not in ids]:
        raise ValueError(f"{unknown[0]!r} is not among the {len(ids):,} words that occur often enough in the text")
    console.print(f"{len(corpus.ids):,} words, {len(ids):,} distinct; {options.model}, d_model {D_MODEL}")
    with use_threads(console, options.threads):
        model = {"skip-gram": SkipGram, "cbow": CBOW}[options.model](len(ids), D_MODEL, rng=rng)
        started = time.perf_counter()
        losses = list(train_word2vec(model, corpus, options.steps, rng=rng))
        seconds = time.perf_counter() - started
    console.print(f"{options.steps:,} steps in {seconds:.1f} s, loss {losses[0]:.3f} → {np.mean(losses[-20:]):.3f}")
    console.print(_table(model, corpus, [ids[word] for word in words]))


def _table(model, corpus, word_ids: list[int]) -> Table:
    """A row for each word: the most similar words with their cosines."""
    from npllm.utils.terminal import printable

    table = Table(show_edge=False)
    table.add_column("word")
    table.add_column("most similar words, with cosine similarity")
    for word_id in word_ids:
        similar = zip(*model.most_similar(word_id, NUM_SIMILAR))
        text = "  ".join(f"{corpus.words[index]} {cosine:.2f}" for index, cosine in similar)
        table.add_row(Text(printable(corpus.words[word_id])), Text(printable(text)))
    return table

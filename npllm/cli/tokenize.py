"""`npllm tokenize`: one text encoded by three kinds of tokenizers."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from npllm.tokenizers.bpe_training import train_bpe
from npllm.tokenizers.gpt2 import GPT2Tokenizer
from npllm.tokenizers.words import SimpleTokenizerV2, build_vocab
from npllm.utils import corpora
from npllm.utils.terminal import coloured_tokens, readable_tokens, token_grid

VOCAB_SIZE = 512


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("tokenize", help="a text as words, byte pairs and GPT-2's tokens")
    command.add_argument("text", metavar="TEXT", help='the text; "-" reads it from standard input')
    command.set_defaults(run=run)


def run(console: Console, options: argparse.Namespace) -> None:
    """Print the tokens of the text."""
    if options.text == "-" and sys.stdin is None:
        raise ValueError("TEXT is -, but there is no standard input")
    show_tokens(console, sys.stdin.read().removeprefix("\ufeff") if options.text == "-" else options.text)


def show_tokens(console: Console, text: str) -> None:
    """Print the tokens and ids of a text: words and byte pairs learned from the shipped story, and GPT-2's.

    Raises ValueError for a text without a word.
    """
    if not text.strip():
        raise ValueError("TEXT is blank; it must have at least one word")
    story = corpora.read("story")
    words = SimpleTokenizerV2(build_vocab(story, ["<|endoftext|>", "<|unk|>"]))
    ids = words.encode(text)
    tokens = [words.id_to_token[i] for i in ids]
    _print_tokens(console, "words", tokens, ids, f"{len(words):,} words and special tokens of the story")
    for name, tokenizer, description in (
        ("byte pair encoding", train_bpe(story, VOCAB_SIZE), f"{VOCAB_SIZE} tokens learned from the story"),
        ("GPT-2", GPT2Tokenizer.load(), "50,257 tokens, the ids of tiktoken's gpt2"),
    ):
        ids = tokenizer.encode(text, disallowed_special=())
        _print_tokens(console, name, readable_tokens(tokenizer, ids), ids, description)


def _print_tokens(console: Console, name: str, tokens: Sequence[str], ids: Sequence[int], description: str) -> None:
    console.print()
    console.print(Text.assemble((name, "bold"), f"  {len(ids)} tokens  ", (description, "dim")))
    console.print(coloured_tokens(tokens), soft_wrap=True)
    console.print(token_grid(tokens, ids))

"""`npllm tokenize`: one text through the three kinds of tokenizer, side by side."""

import argparse
import sys

from rich.text import Text

from npllm.tokenizers.bpe import train_bpe
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


def run(console, options: argparse.Namespace) -> None:
    """Print the tokens of the text."""
    if options.text == "-" and sys.stdin is None:
        raise ValueError("there is no standard input to read the text from")
    show_tokens(console, sys.stdin.read().removeprefix("\ufeff") if options.text == "-" else options.text)


def show_tokens(console, text):
    """Print the tokens and ids of a text: words and byte pairs learned from the shipped story, and GPT-2's.

    Raises ValueError for a blank text.
    """
    if not text.strip():
        raise ValueError("the text is blank; it must have at least one word")
    story = corpora.read("story")
    words = SimpleTokenizerV2(build_vocab(story, ["<|endoftext|>", "<|unk|>"]))
    ids = words.encode(text)
    _section(
        console, "words", [words.id_to_token[i] for i in ids], ids, f"{len(words.token_to_id):,} words of the story"
    )
    for name, tokenizer, about in (
        ("byte pair encoding", train_bpe(story, VOCAB_SIZE), f"{VOCAB_SIZE} tokens learned from the story"),
        ("GPT-2", GPT2Tokenizer.load(), "50,257 tokens, the ids of tiktoken's gpt2"),
    ):
        ids = tokenizer.encode(text, disallowed_special=())
        _section(console, name, readable_tokens(tokenizer, ids), ids, about)


def _section(console, name, tokens, ids, about):
    console.print()
    console.print(Text.assemble((name, "bold"), f"  {len(ids)} tokens  ", (about, "dim")))
    console.print(coloured_tokens(tokens), soft_wrap=True)
    console.print(token_grid(tokens, ids))

"""`npllm tokenize`: a text encoded by three kinds of tokenizers, or by that of any vocabulary file or model folder."""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from npllm.cli.options import VOCABULARY_HELP, UsageError, read_standard_input, vocabulary_path
from npllm.tokenizers.base import Tokenizer
from npllm.tokenizers.bpe_training import train_bpe
from npllm.tokenizers.byte_pair.pretokenize import PATTERNS
from npllm.tokenizers.gpt2 import GPT2Tokenizer
from npllm.tokenizers.loading import load_tokenizer
from npllm.tokenizers.words import UNKNOWN, SimpleTokenizerV2, build_vocab, split_words
from npllm.utils import corpora
from npllm.utils.terminal import coloured_tokens, readable_tokens, token_grid
from npllm.utils.text_files import read_text_file

VOCAB_SIZE = 512
NUM_SHOWN = 8  # words that the story's vocabulary lacks


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser(
        "tokenize", help="a text as words, byte pairs and GPT-2's tokens, or any vocabulary's"
    )
    command.add_argument("text", metavar="TEXT", nargs="?", help='the text; "-" reads it from standard input')
    command.add_argument("--file", metavar="FILE", help="a text in UTF-8, in place of TEXT")
    command.add_argument(
        "--vocabulary",
        metavar="PATH",
        type=vocabulary_path,
        help=f"{VOCABULARY_HELP} (default: words, byte pairs and GPT-2's tokens)",
    )
    command.add_argument(
        "--pattern", choices=tuple(PATTERNS), help="the pattern of a file of ranks, such as *.tiktoken"
    )
    command.add_argument("--json", action="store_true", help="print ids, tokens and offsets as JSON")
    command.set_defaults(run=run)


def run(console: Console, options: argparse.Namespace) -> None:
    """Print the tokens of the text."""
    text = _text(options)
    if options.pattern is not None and options.vocabulary is None:
        raise UsageError("--pattern belongs to the file of --vocabulary, which is missing")
    if options.vocabulary is not None:
        tokenizer = load_tokenizer(options.vocabulary, pattern=options.pattern)
        if options.json:
            console.file.write(json.dumps(encoded(tokenizer, text), ensure_ascii=False) + "\n")
        else:
            ids = _encode(tokenizer, text)
            description = f"{tokenizer.n_vocab:,} tokens"
            _print_tokens(console, str(options.vocabulary), _texts(tokenizer, ids), ids, description)
    elif options.json:
        tokenizers = {"bpe": train_bpe(corpora.read("story"), VOCAB_SIZE), "gpt2": GPT2Tokenizer.load()}
        everything = {"words": encoded_words(text)} | {name: encoded(one, text) for name, one in tokenizers.items()}
        console.file.write(json.dumps(everything, ensure_ascii=False) + "\n")
    else:
        show_tokens(console, text)


def encoded(tokenizer: Tokenizer, text: str) -> dict[str, Any]:
    """The ids of a text, the text of each token, and its offsets in the text if the tokenizer gives them.

    The text of a token that is only a part of a character is its bytes in hexadecimal, such as "<f0><9f>".
    """
    ids = _encode(tokenizer, text)
    result: dict[str, Any] = {"ids": ids, "tokens": _texts(tokenizer, ids)}
    if hasattr(tokenizer, "encode_with_offsets"):
        result["offsets"] = tokenizer.encode_with_offsets(text, disallowed_special=())[1].tolist()
    return result


def encoded_words(text: str) -> dict[str, Any]:
    """The ids and the words of a text in the vocabulary of the shipped story; unknown words have the id of <|unk|>."""
    words = _story_words()
    tokens = split_words(text)
    return {"ids": words.encode(text), "tokens": tokens, "unknown": [t for t in tokens if t not in words.token_to_id]}


def show_tokens(console: Console, text: str) -> None:
    """Print the tokens and ids of a text: words and byte pairs learned from the shipped story, and GPT-2's.

    Raises ValueError for a text without a word.
    """
    if not text.strip():
        raise ValueError("TEXT is blank; it must have at least one word")
    words, found = _story_words(), encoded_words(text)
    description = f"{len(words):,} words and special tokens of the story"
    _print_tokens(console, "words", found["tokens"], found["ids"], description)
    if unknown := list(dict.fromkeys(found["unknown"])):
        shown = ", ".join(map(repr, unknown[:NUM_SHOWN])) + (", …" if len(unknown) > NUM_SHOWN else "")
        unknown_id = words.token_to_id[UNKNOWN]
        console.print(
            Text(f"not in the vocabulary: {shown}; each has the id of {UNKNOWN}, {unknown_id}"), soft_wrap=True
        )
    for name, tokenizer, description in (
        ("byte pair encoding", train_bpe(corpora.read("story"), VOCAB_SIZE), f"{VOCAB_SIZE} tokens of the story"),
        ("GPT-2", GPT2Tokenizer.load(), "50,257 tokens, the ids of tiktoken's gpt2"),
    ):
        ids = tokenizer.encode(text, disallowed_special=())
        _print_tokens(console, name, readable_tokens(tokenizer, ids), ids, description)


def _text(options):
    """The text of TEXT, of standard input or of --file."""
    if (options.text is None) == (options.file is None):
        raise UsageError("give either TEXT or --file FILE")
    if options.file is not None:
        return read_text_file(options.file)
    if options.text != "-":
        return options.text
    return read_standard_input().removeprefix("\ufeff")


def _story_words():
    return SimpleTokenizerV2(build_vocab(corpora.read("story"), ["<|endoftext|>", UNKNOWN]))


def _encode(tokenizer, text):
    """The ids of a text; special tokens are ordinary text. Raises ValueError for a character without an id."""
    try:
        return tokenizer.encode_ordinary(text)
    except KeyError as error:
        raise ValueError(error.args[0]) from None


def _texts(tokenizer, ids):
    """The text of each id's token."""
    if hasattr(tokenizer, "decode_bytes"):
        return readable_tokens(tokenizer, ids)
    return [tokenizer.decode([token_id]) for token_id in ids]


def _print_tokens(console: Console, name: str, tokens: Sequence[str], ids: Sequence[int], description: str) -> None:
    console.print()
    console.print(Text.assemble((name, "bold"), f"  {len(ids)} tokens  ", (description, "dim")))
    console.print(coloured_tokens(tokens), soft_wrap=True)
    console.print(token_grid(tokens, ids))

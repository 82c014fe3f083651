"""The command line: `npllm` or `python -m npllm`. A file for each command; see `options` for what such a file holds."""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.text import Text

from npllm.cli import (
    attention,
    bpe,
    chat,
    data,
    export,
    generate,
    models,
    seq2seq,
    tokenize,
    tour,
    train,
    verify,
    word2vec,
)
from npllm.cli.options import Parser, UsageError, print_help, with_option_names

COMMANDS = (
    tour,
    tokenize,
    data,
    models,
    bpe,
    word2vec,
    seq2seq,
    attention,
    train,
    generate,
    chat,
    export,
    verify,
)  # as --help lists them


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 for a failure, 130 after Ctrl-C. Wrong usage exits with 2."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a character that the terminal cannot show becomes "?"
    options = build_parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        return options.run(console, options) or 0
    except BrokenPipeError:  # the reader of our output, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted")
        return 130
    except UsageError as error:
        raise SystemExit(_usage_error(options.parser, str(error))) from None
    except MemoryError as error:
        return _failure(f"not enough memory: {error}")
    except (OSError, ValueError, IndexError, ArithmeticError) as error:
        return _failure(with_option_names(str(error), options))


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog="npllm",
        description="Everything inside a GPT, in NumPy you can read, every number checked against PyTorch.",
    )
    parser.add_argument("--version", action="version", version=f"npllm {_version()}")
    parser.set_defaults(run=print_help)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def _usage_error(parser: Parser, message: str) -> int:
    """Print what argparse prints for wrong usage; return the exit status."""
    parser.print_usage(sys.stderr)
    print(f"{parser.prog}: error: {message}", file=sys.stderr)
    return 2


def _failure(message: str) -> int:
    Console(stderr=True, highlight=False).print(Text(f"npllm: {message}", style="red"), soft_wrap=True)
    return 1


def _version() -> str:
    try:
        return version("npllm")
    except PackageNotFoundError:
        return "(not installed)"

"""The command line: `npllm` or `python -m npllm`. A file for each command; see `options` for what such a file holds."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from rich.text import Text

from npllm.cli.options import Parser, UsageError, print_help, with_option_names
from npllm.cli.output import PrintableConsole, standard_streams
from npllm.utils.signals import describe_interruption, raise_on_signals, signal_behind
from npllm.utils.terminal import printable

COMMANDS = (
    "tour",
    "tokenize",
    "data",
    "models",
    "bpe",
    "word2vec",
    "seq2seq",
    "attention",
    "experiments",
    "train",
    "generate",
    "chat",
    "export",
    "verify",
)  # fmt: skip  (modules of this folder, as --help lists them)
EXPECTED = (OSError, ValueError, IndexError, ArithmeticError, MemoryError, UsageError, KeyboardInterrupt)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0, 1 for a failure, 128 + n after signal n (130 for Ctrl-C). Wrong usage raises SystemExit with 2.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    with standard_streams():
        options = None
        try:
            parser = build_parser(arguments)
            with raise_on_signals():
                try:
                    options = parser.parse_args(arguments)
                    return options.run(PrintableConsole(), options) or 0
                finally:
                    sys.stdout.flush()  # here, where an error becomes a message
        except BaseException as error:
            if not isinstance(error, EXPECTED) and signal_behind(error) is None:
                raise
            return _status(error, options)


def build_parser(arguments: Sequence[str] = ()) -> Parser:
    """The parser of all commands, or of the one that the arguments begin with: its imports take less time."""
    parser = Parser(
        prog="npllm",
        description="Everything inside a GPT, in NumPy you can read, every number checked against PyTorch.",
    )
    parser.add_argument("--version", action="version", version=f"npllm {_version()}")
    parser.set_defaults(run=print_help)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name in arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS:
        import_module(f"npllm.cli.{name}").add_parser(commands)
    return parser


def _status(error: BaseException, options: argparse.Namespace | None) -> int:
    """Print a message for the error; return the exit status."""
    number = signal_behind(error)
    if number is not None:
        PrintableConsole(stderr=True).print(describe_interruption(number))
        return 128 + number
    if isinstance(error, BrokenPipeError):  # the reader of standard output, such as `head`, has closed the pipe
        return 0
    if isinstance(error, UsageError):
        raise SystemExit(_usage_error(options.parser, str(error))) from None
    if isinstance(error, MemoryError):
        return _failure(f"not enough memory{f': {error}' if str(error) else ''}")
    if isinstance(error, FileNotFoundError) and not _has_current_folder():
        return _failure("the current folder was removed; change to a folder that exists")
    if isinstance(error, OSError) and error.filename is not None:
        return _failure(f"{os.fsdecode(error.filename)}: {error.strerror}")
    return _failure(str(error) if options is None else with_option_names(str(error), options))


def _has_current_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _usage_error(parser: Parser, message: str) -> int:
    """Print what argparse prints for wrong usage; return the exit status."""
    parser.print_usage(sys.stderr)
    print(f"{parser.prog}: error: {printable(message)}", file=sys.stderr)
    return 2


def _failure(message: str) -> int:
    PrintableConsole(stderr=True).print(Text(f"npllm: {message}", style="red"), soft_wrap=True)
    return 1


def _version() -> str:
    try:
        return version("npllm")
    except PackageNotFoundError:
        return "(not installed)"

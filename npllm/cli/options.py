"""What the commands share: the parser, options of several commands, and checks before the work.

A command is one file with two functions:

    add_parser(commands)      adds the command to argparse's subparsers; argparse holds every default
    run(console, options)     does the work; returns the exit status, or None for 0
"""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from npllm.utils.signals import defer_signals, raise_signal
from npllm.utils.terminal import printable

FIELDS = {  # a field of the library → its option, where they differ by more than dashes
    "k": "--top-k",
    "p": "--top-p",
    "penalty": "--repetition-penalty",
    "embedding_dropout": "--dropout",
    "attention_dropout": "--dropout",
    "residual_dropout": "--dropout",
    "name": "--corpus",
}
MODEL_HELP = "a name of `npllm models`, a model folder, a GGUF file, or a run of npllm train"
VOCABULARY_HELP = "a vocabulary file, a GGUF file, a folder with one, or a name of `npllm models`"
INSTALL_MATPLOTLIB = "install it with `python -m pip install matplotlib`"
_FILE_NAME = re.compile(r"\.(json|jsonl|safetensors|tokens|tiktoken|bpe|bin|txt)\b")


class UsageError(Exception):
    """Options that cannot be combined; the exit status is 2."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose result has the names of all options that were given in `options.given`."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **{"formatter_class": _HelpWithDefaults, **options})
        self.register("action", None, _StoreAndRecord)
        self.set_defaults(parser=self, given=frozenset())

    def error(self, message: str) -> NoReturn:
        """Print the message, without control characters, and exit with 2."""
        super().error(printable(message))


class _HelpWithDefaults(argparse.HelpFormatter):
    """Appends the default to each help text, unless there is none or the text names it."""

    def __init__(self, prog, max_help_position=28, **options):
        super().__init__(prog, max_help_position=max_help_position, **options)

    def _get_help_string(self, action):
        text, default = action.help or "", action.default
        has_default = default not in (None, argparse.SUPPRESS, []) and not isinstance(default, bool)
        if has_default and action.option_strings and "default" not in text:
            return f"{text} (default: %(default)s)".lstrip()
        return text


class _StoreAndRecord(argparse.Action):
    """argparse's default action, which also records that the option was given."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, values)
        namespace.given = namespace.given | {self.dest}


def print_help(console: Console, options: argparse.Namespace) -> None:
    """The `run` of `npllm` and of `npllm bpe`, which need a further command: print the list of commands."""
    console.file.write(options.parser.format_help())


def refuse(options: argparse.Namespace, fields: Iterable[str], reason: str) -> None:
    """Raise UsageError if one of the fields was given as an option; `reason` completes "--vocab-size …"."""
    for field in sorted(fields):
        if field in options.given:
            raise UsageError(f"{option_name(field)} {reason}")


def option_name(field: str) -> str:
    """d_model → --d-model; a name in FIELDS → its option."""
    return FIELDS.get(field, "--" + field.replace("_", "-"))


def with_option_names(message: str, options: argparse.Namespace) -> str:
    """An error message of the library, with the options of the command in place of the fields that it names.

    "d_model is 8 and num_heads 3; …" → "--d-model is 8 and --num-heads 3; …". A word without an underscore, such as
    seed, is taken for a field only at the beginning, before "is". A message about a file stays as it is.
    """
    if _FILE_NAME.search(message):
        return message
    fields = set(vars(options)) | {field for field, name in FIELDS.items() if _has(options, name)}
    names = sorted((field for field in fields if "_" in field), key=len, reverse=True)
    if names:
        message = re.sub(rf"(?<![-\w])({'|'.join(names)})\b", lambda found: option_name(found[1]), message)
    first, rest = message.partition(" ")[::2]
    return f"{option_name(first)} {rest}" if first in fields and rest.startswith("is ") else message


def _has(options: argparse.Namespace, name: str) -> bool:
    return hasattr(options, name.removeprefix("--").replace("-", "_"))


MAX_THREADS = 1024  # as in run.json


def integer_from(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """An argparse type: an integer of at least `lowest`, and at most `highest` if that is given."""

    def integer(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None
        if number < lowest:
            raise argparse.ArgumentTypeError(f"it is {number}; it must be at least {lowest}")
        if highest is not None and number > highest:
            raise argparse.ArgumentTypeError(f"it is {number}; it must be at most {highest}")
        return number

    return integer


def number_from(lowest: float) -> Callable[[str], float]:
    """An argparse type: a finite number of at least `lowest`."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not lowest <= value < math.inf:
            raise argparse.ArgumentTypeError(f"it is {value:g}; it must be at least {lowest:g} and finite")
        return value

    return number


def vocabulary_path(text: str) -> str:
    """An argparse type: the path of a tokenizer. A name of `npllm models` becomes the path of the model."""
    from npllm.models.catalog import MODELS, available_models, find_model

    if not text or Path(text).exists() or text not in MODELS | {model.name: model for model in available_models()}:
        return text
    try:
        return str(find_model(text))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_text_options(command: argparse.ArgumentParser, purpose: str) -> argparse._MutuallyExclusiveGroup:
    """Add --text FILE and --corpus NAME, at most one of which can be given; `purpose` completes "a text …".

    Returns the group, to which further options that exclude them can be added.
    """
    group = command.add_mutually_exclusive_group()
    group.add_argument("--text", metavar="FILE", help=f"a text in UTF-8 {purpose} (default: the shipped story)")
    group.add_argument("--corpus", metavar="NAME", help=f"a known text {purpose}; `npllm data` lists them")
    return group


def add_seed_option(command: argparse.ArgumentParser) -> None:
    """Add --seed N, 0 unless given."""
    command.add_argument("--seed", metavar="N", type=integer_from(0), default=0, help="seed of all random numbers")


def add_threads_option(command: argparse.ArgumentParser, default: int | None = 1) -> None:
    """Add --threads N. The default None stands for a trial, see `try_threads`."""
    text = "threads of BLAS (matrix products)" + ("" if default else " (default: 1 or all, whichever is faster)")
    command.add_argument("--threads", metavar="N", type=integer_from(1, MAX_THREADS), default=default, help=text)


@contextmanager
def use_threads(console: Console, num_threads: int, about: str = "") -> Iterator[None]:
    """A context in which BLAS uses this number of threads; prints the number."""
    from npllm.core.threads import limit_threads

    console.print(f"BLAS threads: {num_threads}{about}", highlight=False)
    with limit_threads(num_threads):
        yield


def try_threads(step: Callable[[], object]) -> tuple[int, str]:
    """1 or all threads of BLAS, whichever runs `step()` faster, and a text with the times for `use_threads`."""
    from npllm.core.threads import faster_num_threads

    num_threads, seconds = faster_num_threads(step)
    times = ", ".join(f"{1000 * value:,.1f} ms a step with {number}" for number, value in seconds.items())
    return num_threads, f" ({times})" if times else ""


def read_text(options: argparse.Namespace) -> str:
    """The text of --text or of --corpus; the shipped story if neither is given."""
    from npllm.utils import corpora
    from npllm.utils.text_files import read_text_file

    return corpora.read(options.corpus or "story") if options.text is None else read_text_file(options.text)


def read_standard_input() -> str:
    """The text of standard input; raises ValueError if it is closed, or is not UTF-8."""
    if sys.stdin is None:
        raise ValueError("standard input is closed; it must be a text")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not a text in {error.encoding}: byte {error.start} is invalid") from None


def check_output_folder(option: str, folder: str) -> None:
    """Raise ValueError or PermissionError if no files can be written into the folder, which need not exist yet."""
    if not folder:
        raise ValueError(f"{option} is empty; it must be a folder")
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{option} is {folder}, a file; it must be a folder")
    existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise ValueError(f"{option} is {folder}, but {existing} is a file; it must be a folder")
    if not os.access(existing, os.W_OK):
        raise PermissionError(f"{option} is {folder}, but {existing} is not writable")


def check_figures_folder(folder: str | None) -> None:
    """Raise an error if figures cannot be drawn into the folder of --figures (None: no figures are wanted)."""
    if folder is None:
        return
    if not has_matplotlib():
        raise ValueError(f"--figures needs matplotlib: {INSTALL_MATPLOTLIB}")
    check_output_folder("--figures", folder)


def has_matplotlib() -> bool:
    """Whether matplotlib is installed; imports it.

    A signal during the import is raised after it: an interrupted import leaves extension modules half initialized, with
    which Python aborts when it ends.
    """
    if find_spec("matplotlib") is None:
        return False
    with defer_signals() as received:
        import matplotlib.figure  # noqa: F401
    number = received()
    if number is not None:
        raise_signal(number)
    return True

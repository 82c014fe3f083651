"""The command line: `npllm` or `python -m npllm`.

    npllm tour       a walk through everything, on the shipped story or on a text of yours
    npllm tokenize   one text as words, byte pairs and GPT-2's tokens
    npllm data       the texts that npllm knows, and fetching them
    npllm verify     every piece against PyTorch

It alone sees all rooms of the house; each command imports what it needs, so that `npllm data` need not wait for
matplotlib.
"""

import argparse
import importlib.util
import os
import sys
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.text import Text

INSTALL_TORCH = (
    "npllm verify compares with PyTorch, which is not installed. In a checkout of npllm:\n"
    '  python -m pip install -e ".[test]" -c .ci/constraints.txt'
)


def main(arguments=None):
    """Run one command and return its exit status: 0, 1 for a failure, 2 for wrong usage, 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character prints "?" and goes on
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        return options.run(console, options) or 0
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted")
        return 130
    except (OSError, ValueError) as error:
        Console(stderr=True, highlight=False).print(Text(f"npllm: {error}", style="red"), soft_wrap=True)
        return 1


def _parser():
    parser = argparse.ArgumentParser(
        prog="npllm",
        description="Everything inside a GPT, in NumPy you can read, every number checked against PyTorch.",
    )
    parser.add_argument("--version", action="version", version=f"npllm {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = commands.add_parser("tour", help="a walk through everything, in under a minute")
    command.add_argument("--text", metavar="FILE", help="a text in UTF-8 to walk through (default: the shipped story)")
    command.add_argument(
        "--prompt", metavar="TEXT", help="the line to follow and to continue (default: the text's first words)"
    )
    command.add_argument(
        "--steps", metavar="N", type=int, default=1000, help="training steps at the end (default: 1000)"
    )
    command.add_argument("--seed", metavar="N", type=int, default=0, help="seed of all random numbers (default: 0)")
    command.add_argument("--figures", metavar="FOLDER", help="also draw figures into this folder")
    command.set_defaults(run=_tour)

    command = commands.add_parser("tokenize", help="a text as words, byte pairs and GPT-2's tokens")
    command.add_argument("text", metavar="TEXT", help='the text; "-" reads it from standard input')
    command.set_defaults(run=_tokenize)

    command = commands.add_parser("data", help="the texts that npllm knows")
    command.set_defaults(run=_data)
    actions = command.add_subparsers(title="actions", metavar="ACTION")
    actions.add_parser("list", help="which there are, and where (the default)")
    fetch = actions.add_parser("fetch", help="fetch one into the cache folder")
    fetch.add_argument("name", metavar="NAME", help="the-verdict or tinyshakespeare")
    fetch.add_argument("--folder", metavar="FOLDER", help="another folder than the cache")
    fetch.set_defaults(run=_fetch)

    command = commands.add_parser("verify", help="every piece against PyTorch, as a table")
    command.add_argument("--readme", metavar="FILE", help="also write the table into this file's section “verify”")
    command.set_defaults(run=_verify)
    return parser


def _tour(console, options):
    from npllm import corpora
    from npllm.lab.tour import tour

    text = None if options.text is None else corpora.read_text_file(options.text)
    walk = tour(console, text, options.prompt, options.steps, options.seed)
    if options.figures is not None:
        from npllm.lab.figures import draw_figures

        for path in draw_figures(walk, options.figures):
            console.print(f"drew {path}", soft_wrap=True)


def _tokenize(console, options):
    from npllm.lab.tokenize_command import show_tokens

    show_tokens(console, sys.stdin.read() if options.text == "-" else options.text)


def _data(console, options):
    from npllm.lab.data_command import list_corpora

    list_corpora(console)


def _fetch(console, options):
    from npllm.lab.data_command import fetch_corpus

    return fetch_corpus(console, options.name, options.folder)


def _verify(console, options):
    if importlib.util.find_spec("torch") is None:
        Console(stderr=True).print(Text(INSTALL_TORCH), soft_wrap=True)
        return 1
    from npllm.lab.verify_command import show_equivalence
    from torch_ref.verify import rows

    return show_equivalence(console, rows(), options.readme)


def _version():
    try:
        return version("npllm")
    except PackageNotFoundError:
        return "(not installed)"

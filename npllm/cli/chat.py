"""`npllm chat`: a conversation with a published model. An answer is printed token by token.

With --prompt, or with a text on standard input, there is one answer. Otherwise questions are read line by line: Ctrl-C
stops an answer, Ctrl-D leaves.
"""

import argparse
import contextlib
import re
import sys

import numpy as np
from rich.console import Console
from rich.text import Text

from npllm.cli.options import MODEL_HELP, read_standard_input, try_threads, use_threads
from npllm.cli.output import PrintableConsole
from npllm.cli.text_generation import (
    Timer,
    add_generation_options,
    generation_options,
    open_model,
    show_candidates,
    show_tokens,
    stop_ids_of,
)
from npllm.generation.chat import Chat
from npllm.utils.signals import TerminationSignal
from npllm.utils.terminal import printable

DEFAULT_MODEL = "smollm2"
HELP = "Ctrl-C stops an answer, Ctrl-D leaves, /new starts a new conversation."


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("chat", help="a conversation with a published model")
    command.add_argument("--model", metavar="MODEL", default=DEFAULT_MODEL, help=MODEL_HELP)
    command.add_argument("--system", metavar="TEXT", help="the system message (default: that of the model's template)")
    command.add_argument(
        "--prompt", metavar="TEXT", help="one question; prints the answer and ends, as for a text on standard input"
    )
    add_generation_options(command, max_new_tokens=512, temperature=0.0)
    command.set_defaults(run=run)


def run(console: Console, options: argparse.Namespace) -> None:
    """Print the answer to one question, or answer questions until the input ends."""
    sampling, errors = generation_options(options), PrintableConsole(stderr=True)
    pretrained = open_model(options.model, options.vocabulary, options.best)
    chat = Chat(pretrained, options.system, stop_ids=stop_ids_of(pretrained), **sampling)
    num_threads, times = options.threads, ""
    if num_threads is None:
        num_threads, times = try_threads(lambda: pretrained.model(np.zeros((1, 1), int)))
    with use_threads(errors, num_threads, times):
        if options.prompt is not None or sys.stdin is None or not sys.stdin.isatty():
            question = read_standard_input() if options.prompt is None else options.prompt
            if not question.strip() and options.prompt is None:
                raise ValueError("standard input has no question; give one there, or with --prompt TEXT")
            if not question.strip():
                raise ValueError("prompt is empty; it must have at least one character besides whitespace")
            answer_and_show(console, errors, chat, question, options)
        else:
            converse(console, errors, chat, options)


def converse(console: Console, errors: Console, chat: Chat, options: argparse.Namespace) -> None:
    """Read questions and print answers until the end of the input."""
    with contextlib.suppress(ImportError):  # on Windows
        import readline  # noqa: F401  (with it, input() has a history and editing keys)
    console.print(Text(HELP, style="dim"))
    while True:
        try:
            question = input("\n> ")
        except EOFError:
            console.print()
            return
        except TerminationSignal:
            raise
        except KeyboardInterrupt:
            console.print()
            continue
        if question.strip() == "/new":
            chat.start()
            console.print(Text("A new conversation.", style="dim"))
        elif re.fullmatch("/[a-z]*", question.strip()):
            console.print(Text(HELP, style="dim"))
        elif question.strip():
            try:
                answer_and_show(console, errors, chat, question, options)
            except TerminationSignal:
                raise
            except KeyboardInterrupt:
                console.print(Text("(stopped)", style="dim"))
            except ValueError as error:  # of the template or the context length: the conversation goes on
                errors.print(Text(f"{error}. /new starts a new conversation.", style="red"), soft_wrap=True)


def answer_and_show(console: Console, errors: Console, chat: Chat, question: str, options: argparse.Namespace) -> None:
    """Print the answer as it is generated, and then the tokens per second."""
    tokens = chat.answer(question, options.max_new_tokens)
    timer = Timer()
    try:
        if options.show_candidates is None:
            show_tokens(console, timer.timed(tokens))
        else:
            tokenizer = chat.pretrained.tokenizer
            text = show_candidates(console, timer.timed(tokens), tokenizer, options.show_candidates)
            console.print(Text("\n" + printable(text)), end="", soft_wrap=True)
    finally:
        console.print()
    if chat.is_truncated:
        errors.print(Text(f"The answer has no end token: {_limit(chat, options)}.", style="dim"), soft_wrap=True)
    errors.print(Text(timer.report(chat.num_processed), style="dim"), soft_wrap=True)


def _limit(chat: Chat, options: argparse.Namespace) -> str:
    if chat.num_left > 0:
        return f"it reached --max-new-tokens {options.max_new_tokens}"
    return f"the conversation fills the context length of {chat.pretrained.model.context_length} tokens"

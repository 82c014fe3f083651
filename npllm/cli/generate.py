"""`npllm generate`: continue a prompt with a published or trained model, and print each token as it is drawn."""

import argparse
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from npllm.cli.options import MODEL_HELP, try_threads, use_threads
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
from npllm.generation.chat import encode_with_special_tokens
from npllm.generation.text import generate_tokens
from npllm.models.pretrained import Pretrained
from npllm.utils.terminal import printable


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("generate", help="continue a prompt with a published or trained model")
    command.add_argument("--model", metavar="MODEL", required=True, help=MODEL_HELP)
    command.add_argument("--prompt", metavar="TEXT", default="\n", help="text to continue (default: a line break)")
    add_generation_options(command, max_new_tokens=200, temperature=0.8)
    command.set_defaults(run=run)


def run(console: Console, options: argparse.Namespace) -> None:
    """Print the prompt and its continuation, and how many tokens a second that were."""
    sampling, errors = generation_options(options), PrintableConsole(stderr=True)
    pretrained = open_model(options.model, options.vocabulary, options.best)
    ids = encode_prompt(pretrained.tokenizer, options.prompt)
    num_threads, times = options.threads, ""
    if num_threads is None:
        one_id = np.array([ids[:1]])
        num_threads, times = try_threads(lambda: pretrained.model(one_id))
    with use_threads(errors, num_threads, times):
        report = generate_and_show(
            console, pretrained, options.prompt, options.max_new_tokens, options.show_candidates, **sampling
        )
    errors.print(Text(report, style="dim"), soft_wrap=True)


def encode_prompt(tokenizer: Any, prompt: str) -> list[int]:
    """The ids of the prompt, after those that the model expects before a text, such as that of <s>.

    Raises ValueError if there are none, and for a text that the tokenizer cannot encode.
    """
    if not prompt:
        raise ValueError("prompt is empty; it must have at least one character")
    try:
        return [*tokenizer.prefix_ids, *encode_with_special_tokens(tokenizer, prompt)]
    except KeyError as error:
        raise ValueError(f"prompt is {prompt!r}, which cannot be encoded: {error.args[0]}") from None


def generate_and_show(
    console: Console,
    pretrained: Pretrained,
    prompt: str,
    max_new_tokens: int,
    num_candidates: int | None = None,
    **options: Any,
) -> str:
    """Print the prompt and each new token as it is drawn, up to an end token; return the tokens per second as a text.

    With num_candidates, first a line for each token with the most probable ones. `options` as for `generate`.
    """
    ids = encode_prompt(pretrained.tokenizer, prompt)
    stop_ids, timer = stop_ids_of(pretrained), Timer()
    tokens = timer.timed(
        generate_tokens(pretrained.model, pretrained.tokenizer, ids, max_new_tokens, stop_ids=stop_ids, **options)
    )
    if num_candidates is not None:
        text = show_candidates(console, tokens, pretrained.tokenizer, num_candidates)
        console.print()
        console.print(Text.assemble((printable(prompt), "bold"), printable(text)), soft_wrap=True)
    else:
        console.print(Text(printable(prompt), style="bold"), end="", soft_wrap=True)
        show_tokens(console, tokens)
        console.print()
    return timer.report(len(ids))

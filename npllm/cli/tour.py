"""`npllm tour`: a text goes through every part of npllm, section by section."""

import argparse

from rich.console import Console
from rich.text import Text

from npllm.cli.options import (
    MODEL_HELP,
    add_seed_option,
    add_threads_option,
    check_figures_folder,
    integer_from,
    refuse,
    use_threads,
)


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("tour", help="every step from a text to a trained GPT, in under a minute")
    command.add_argument("--text", metavar="FILE", help="a text in UTF-8 (default: the shipped story)")
    command.add_argument("--prompt", metavar="TEXT", help="the prompt to follow (default: the text's first words)")
    command.add_argument("--steps", metavar="N", type=integer_from(1), default=1000, help="training steps at the end")
    add_seed_option(command)
    add_threads_option(command)
    command.add_argument("--figures", metavar="FOLDER", help="also draw figures into this folder")
    command.add_argument(
        "--model", metavar="MODEL",
        help="follow the prompt through a published model instead: " + MODEL_HELP,
    )  # fmt: skip
    command.set_defaults(run=run)


def run(console: Console, options: argparse.Namespace) -> None:
    """Print the tour; draw the figures, if a folder is given."""
    from npllm.lessons.tour.run import run_tour
    from npllm.utils.text_files import read_text_file

    if options.model is not None:
        _run_model_tour(console, options)
        return
    check_figures_folder(options.figures)
    text = None if options.text is None else read_text_file(options.text)
    with use_threads(console, options.threads):
        state = run_tour(console, text, options.prompt, options.steps, options.seed)
    if options.figures is not None:
        from npllm.lessons.tour.figures import draw_figures

        for path in draw_figures(state, options.figures):
            console.print(Text(f"drew {path}"), soft_wrap=True)


def _run_model_tour(console: Console, options: argparse.Namespace) -> None:
    from npllm.cli.text_generation import open_model
    from npllm.lessons.tour.published import run_model_tour

    refuse(options, ("text", "steps", "seed", "figures"), "has no effect with --model")
    pretrained = open_model(options.model)
    with use_threads(console, options.threads):
        run_model_tour(console, pretrained, options.prompt)

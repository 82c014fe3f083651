"""`npllm seq2seq`: train a small encoder-decoder, print its accuracy on new examples and its alignment."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from npllm.cli.options import (
    add_seed_option,
    add_threads_option,
    check_figures_folder,
    integer_from,
    refuse,
    use_threads,
)

NUM_EXAMPLES, NUM_DRAWN = 5, 3
NUM_REPORTS = 6  # lines with the loss


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("seq2seq", help="train an encoder-decoder with attention and show its alignment")
    command.add_argument(
        "--task", choices=("reverse", "copy", "numbers"), default="reverse",
        help="reverse or copy letters, or translate numbers in words to digits (default: reverse)",
    )  # fmt: skip
    command.add_argument(
        "--attention", choices=("none", "additive", "dot", "general", "concat"), default="general",
        help="Bahdanau's (additive) or one of Luong's (default: general)",
    )  # fmt: skip
    command.add_argument("--cell", choices=("rnn", "gru", "lstm"), default="gru", help="recurrent cell (default: gru)")
    command.add_argument("--steps", metavar="N", type=integer_from(1), default=600, help="training steps")
    add_seed_option(command)
    add_threads_option(command)
    command.add_argument("--figures", metavar="FOLDER", help="also draw alignments into this folder")
    command.set_defaults(run=run)


def run(console: Console, options: argparse.Namespace) -> None:
    """Train a model; print accuracy, examples and an alignment; draw alignments, if a folder is given."""
    if options.attention == "none":
        refuse(options, ["figures"], "draws alignments, and with --attention none there are none")
    check_figures_folder(options.figures)
    from npllm.experiments.seq2seq_comparison import CAPTION
    from npllm.utils.terminal import matrix

    with use_threads(console, options.threads):
        trained = _train(console, options)
        _print_results(console, trained)
        if options.attention == "none":
            console.print("Without attention there is no alignment: the decoder gets the encoder's last state only.")
            return
        alignment = trained.longest_alignment()
        if alignment is not None:
            console.print(CAPTION)
            weights, generated, source = alignment
            console.print(matrix(weights, generated, source, corner="generated", shade=True))
        if options.figures is not None:
            console.print(Text(f"drew {_draw(trained, options)}"), soft_wrap=True)


def _train(console: Console, options: argparse.Namespace):
    """A TrainedSeq2Seq; prints the loss several times during training."""
    import numpy as np

    from npllm.experiments.seq2seq_comparison import NUM_VALIDATION, train_and_evaluate

    title = f"{options.task}: {options.cell} encoder and decoder, attention {options.attention}"
    console.print(Text(title, style="bold"))
    interval = max(1, options.steps // NUM_REPORTS)

    def report(losses):
        if len(losses) % interval == 0:
            console.print(f"step {len(losses):5}   loss {np.mean(losses[-20:]):.4f}")

    trained = train_and_evaluate(
        options.task, options.attention, options.cell, options.steps, options.seed, report
    )  # fmt: skip
    console.print(f"{trained.model.num_parameters():,} parameters, {options.steps} steps in {trained.seconds:.1f} s")
    console.print()
    console.print(f"{trained.accuracy:.1%} of {NUM_VALIDATION} validation examples are correct")
    return trained


def _print_results(console: Console, trained) -> None:
    """Print the accuracy by length, and a few examples."""
    table = Table(show_edge=False)
    table.add_column("target tokens")
    table.add_column("examples", justify="right")
    table.add_column("correct", justify="right")
    for length, (number, fraction) in trained.accuracy_by_length().items():
        table.add_row(str(length), str(number), f"{fraction:.0%}")
    console.print(table)
    console.print()
    for index in range(NUM_EXAMPLES):
        source, generated, target = trained.example(index)
        text = Text.assemble(" ".join(source), "  →  ", " ".join(generated))
        if not trained.correct[index]:
            text.append(f"   (wrong; correct is {' '.join(target)})", style="red")
        console.print(text, soft_wrap=True)
    console.print()


def _draw(trained, options: argparse.Namespace) -> Path:
    """Draw the first alignments into a file in the folder, which is created if needed; return its path."""
    from npllm.lessons.alignment_figure import alignment_figure
    from npllm.utils.plots import save_figure

    folder = Path(options.figures)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"alignment-{options.task}-{options.attention}.png"
    title = f"{options.task}, {options.attention} attention: weights of each generated token over the source"
    save_figure(alignment_figure([trained.alignment(index) for index in range(NUM_DRAWN)], title), path)
    return path

"""`npllm seq2seq`: a small translator learns before your eyes, and shows where each word that it writes comes from."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from npllm.before_transformers.seq2seq import Seq2Seq
from npllm.cli.options import add_seed_option, add_threads_option, check_figures_folder, integer_from, use_threads
from npllm.experiments.sequence_tasks import END, TASKS, Batch, Task, learn, write
from npllm.utils.files import atomic_write
from npllm.utils.markdown import markdown_table, replace_section
from npllm.utils.terminal import matrix

D_EMBEDDING, D_HIDDEN = 16, 48
NUM_UNSEEN, NUM_EXAMPLES, NUM_DRAWN = 500, 5, 3
LONGEST_SHOWN = 8  # columns of the alignment that a terminal has room for
PICTURE = "Each written token is a row: how much it took from each token of the source."


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("seq2seq", help="train an encoder-decoder with attention and show its alignment")
    command.add_argument("--task", choices=("reverse", "copy", "numbers"), default="reverse", help="default: reverse")
    command.add_argument(
        "--attention", choices=("none", "additive", "dot", "general", "concat"), default="general",
        help="default: general",
    )  # fmt: skip
    command.add_argument("--cell", choices=("rnn", "gru", "lstm"), default="gru", help="default: gru")
    command.add_argument("--steps", metavar="N", type=integer_from(1), default=600, help="training steps")
    add_seed_option(command)
    add_threads_option(command)
    command.add_argument("--figures", metavar="FOLDER", help="also draw the alignment into this folder")
    command.set_defaults(run=run)


def run(console, options: argparse.Namespace) -> None:
    """Train a model and print how it does."""
    check_figures_folder(options.figures)
    with use_threads(console, options.threads):
        align_and_show(
            console, options.task, options.attention, options.cell, options.steps, options.seed, options.figures
        )


@dataclass(frozen=True)
class Translator:
    """A trained model, and how it did on examples that it had not seen."""

    task: Task
    model: Seq2Seq
    seconds: float  # of training
    batch: Batch
    written: np.ndarray  # (B, T)
    right: np.ndarray  # (B), True where nothing is wrong


def align_and_show(console, task_name, attention, cell, num_steps, seed, figures=None, readme=None):
    """Train a model on a task, print how it does on unseen examples, and where it looked; maybe draw it, too.

    `readme` names a file in which the section "align" is replaced by how this model does beside one without attention.
    """
    translator = _train(console, task_name, attention, cell, num_steps, seed)
    _show(console, translator)
    if attention == "none":
        console.print(
            "Without attention there is no alignment: all that was read had to fit into the encoder's last state."
        )
        return
    alignments = [_alignment(translator, index) for index in range(NUM_UNSEEN)]
    picture = _longest_shown(alignments, translator.right)
    if picture is not None:
        console.print(PICTURE)
        console.print(matrix(*picture, "written", shade=True))
    if figures is not None:
        console.print(Text(f"drew {_draw(alignments[:NUM_DRAWN], task_name, attention, figures)}"), soft_wrap=True)
    if readme is not None:
        console.print()
        without = _train(console, task_name, "none", cell, num_steps, seed)
        _show(console, without)
        replace_section(readme, "align", _section(translator, without, picture, attention, num_steps))


def _train(console, task_name, attention, cell, num_steps, seed):
    """A Translator, with a line for every sixth of its training."""
    task, rng = TASKS[task_name](), np.random.default_rng(seed)
    model = Seq2Seq(
        len(task.source_tokens), len(task.target_tokens), D_EMBEDDING, D_HIDDEN, attention, cell, rng=rng
    )  # fmt: skip
    console.print(Text(f"{task_name}: {cell} encoder and decoder, attention {attention}", style="bold"))
    console.print(f"{model.num_parameters():,} parameters, {num_steps} steps of 64 examples made up on the spot")
    losses, start = [], time.perf_counter()
    for loss in learn(model, task, num_steps, rng):
        losses.append(loss)
        if len(losses) % max(1, num_steps // 6) == 0:
            console.print(f"step {len(losses):5}   loss {np.mean(losses[-20:]):.4f}")
    seconds = time.perf_counter() - start
    batch = task.batch(np.random.default_rng([seed, 1]), NUM_UNSEEN)  # another stream of numbers than the training's
    return Translator(task, model, seconds, batch, *write(model, batch))


def _show(console, translator):
    """Print how often it is right, and a few examples."""
    console.print()
    console.print(f"{translator.right.mean():.1%} of {NUM_UNSEEN} unseen examples without a mistake")
    table = Table(show_edge=False)
    table.add_column("tokens to write")
    table.add_column("examples", justify="right")
    table.add_column("right", justify="right")
    for row in _by_length(translator):
        table.add_row(*row)
    console.print(table)
    console.print()
    for index in range(NUM_EXAMPLES):
        console.print(_example(translator, index), soft_wrap=True)
    console.print()


def _section(translator, without, picture, attention, num_steps):
    """Right with attention and without, by length, and where the one with it looked, in Markdown."""
    about = (
        f"{num_steps:,} steps, {translator.seconds:.0f} seconds of training with {attention} attention, "
        f"{without.seconds:.0f} without any. Of {NUM_UNSEEN} unseen examples {translator.right.mean():.1%} are without "
        f"a mistake with attention, {without.right.mean():.1%} without."
    )
    pairs = zip(_by_length(translator), _by_length(without))
    parts = [about, markdown_table(
        ["tokens to write", "examples", f"right, {attention} attention", "right, none"],
        [[*row, other[-1]] for row, other in pairs],
    )]  # fmt: skip
    if picture is not None:
        weights, rows, columns = picture
        lines = [[f"`{row}`", *(f"{weight:.2f}" for weight in line)] for row, line in zip(rows, weights)]
        parts += [PICTURE, markdown_table(["written", *columns], lines)]
    return "\n\n".join(parts)


def _by_length(translator):
    """Rows of how many tokens there are to write, in how many examples, and the share that is right."""
    lengths = (translator.batch.targets >= 0).sum(axis=-1) - 1  # without the end
    chosen = {length: translator.right[lengths == length] for length in np.unique(lengths)}
    return [[str(length), str(right.size), f"{right.mean():.0%}"] for length, right in chosen.items()]


def _example(translator, index):
    """source → what was written, and what should have been where that differs."""
    task, batch = translator.task, translator.batch
    source = " ".join(task.source_tokens[i] for i in batch.source[index][batch.mask[index]])
    text = Text.assemble(source, "  →  ", " ".join(task.decode(translator.written[index])))
    if not translator.right[index]:
        text.append(f"   (wrong: {' '.join(task.decode(batch.targets[index]))})", style="red")
    return text


def _alignment(translator, index):
    """The weights behind what was written, its tokens with the end, and the source's tokens."""
    task, batch, written = translator.task, translator.batch, translator.written[index]
    source = batch.source[index][batch.mask[index]]
    tokens = task.decode(written)
    ids = np.array([*written[: len(tokens)], END])
    inputs = np.array([batch.inputs[index, 0], *ids[:-1]])
    names = [*tokens, task.target_tokens[END]]
    return translator.model.alignment(source, inputs), names, [task.source_tokens[i] for i in source]


def _longest_shown(alignments, right):
    """The longest alignment without a mistake for which there is room, or None."""
    short = [a for a, is_right in zip(alignments, right) if is_right and len(a[2]) <= LONGEST_SHOWN]
    return max(short, key=lambda alignment: len(alignment[2])) if short else None


def _draw(alignments, task_name, attention, folder):
    """Draw alignments into a file in the folder, which is made if need be; return its path."""
    from npllm.lessons.alignment_figure import alignment_figure

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"alignment-{task_name}-{attention}.png"
    figure = alignment_figure(alignments, f"{task_name}, {attention} attention: what each written token was taken from")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)
    return path

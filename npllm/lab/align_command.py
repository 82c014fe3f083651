"""`npllm align`: a small translator learns before your eyes, and shows where each word that it writes comes from."""

from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from npllm.files import atomic_write
from npllm.lab.display import matrix
from npllm.lab.sequence_tasks import END, TASKS, learn, write
from npllm.models import Seq2Seq

D_EMBEDDING, D_HIDDEN = 16, 48
NUM_UNSEEN, NUM_EXAMPLES, NUM_DRAWN = 500, 5, 3
LONGEST_SHOWN = 8  # columns of the alignment that a terminal has room for


def align_and_show(console, task_name, attention, cell, num_steps, seed, figures=None):
    """Train a model on a task, print how it does on unseen examples, and where it looked; maybe draw it, too."""
    task, rng = TASKS[task_name](), np.random.default_rng(seed)
    model = Seq2Seq(
        len(task.source_tokens), len(task.target_tokens), D_EMBEDDING, D_HIDDEN, attention, cell, rng=rng
    )  # fmt: skip
    console.print(Text(f"{task_name}: {cell} encoder and decoder, attention {attention}", style="bold"))
    console.print(f"{model.num_parameters():,} parameters, {num_steps} steps of 64 examples made up on the spot")
    losses = []
    for loss in learn(model, task, num_steps, rng):
        losses.append(loss)
        if len(losses) % max(1, num_steps // 6) == 0:
            console.print(f"step {len(losses):5}   loss {np.mean(losses[-20:]):.4f}")

    batch = task.batch(np.random.default_rng([seed, 1]), NUM_UNSEEN)  # another stream of numbers than the training's
    written, right = write(model, batch)
    console.print()
    console.print(f"{right.mean():.1%} of {NUM_UNSEEN} unseen examples without a mistake")
    console.print(_by_length(batch, right))
    console.print()
    for index in range(NUM_EXAMPLES):
        console.print(_example(task, batch, written, right, index), soft_wrap=True)
    console.print()
    if attention == "none":
        console.print(
            "Without attention there is no alignment: all that was read had to fit into the encoder's last state."
        )
        return
    alignments = [_alignment(model, task, batch, written, index) for index in range(NUM_UNSEEN)]
    short = [a for a, is_right in zip(alignments, right) if is_right and len(a[2]) <= LONGEST_SHOWN]
    if short:
        weights, rows, columns = max(short, key=lambda alignment: len(alignment[2]))
        console.print("Each written token is a row: how much it took from each token of the source.")
        console.print(matrix(weights, rows, columns, "written", shade=True))
    if figures is not None:
        console.print(Text(f"drew {_draw(alignments[:NUM_DRAWN], task_name, attention, figures)}"), soft_wrap=True)


def _by_length(batch, right):
    """How often it is right, by the number of tokens to write."""
    lengths = (batch.targets >= 0).sum(axis=-1) - 1  # without the end
    table = Table(show_edge=False)
    table.add_column("tokens to write")
    table.add_column("examples", justify="right")
    table.add_column("right", justify="right")
    for length in np.unique(lengths):
        chosen = lengths == length
        table.add_row(str(length), str(chosen.sum()), f"{right[chosen].mean():.0%}")
    return table


def _example(task, batch, written, right, index):
    """source → what was written, and what should have been where that differs."""
    source = " ".join(task.source_tokens[i] for i in batch.source[index][batch.mask[index]])
    text = Text.assemble(source, "  →  ", " ".join(task.decode(written[index])))
    if not right[index]:
        text.append(f"   (wrong: {' '.join(task.decode(batch.targets[index]))})", style="red")
    return text


def _alignment(model, task, batch, written, index):
    """The weights behind what was written, its tokens with the end, and the source's tokens."""
    source = batch.source[index][batch.mask[index]]
    tokens = task.decode(written[index])
    ids = np.array([*written[index][: len(tokens)], END])
    inputs = np.array([batch.inputs[index, 0], *ids[:-1]])
    names = [*tokens, task.target_tokens[END]]
    return model.alignment(source, inputs), names, [task.source_tokens[i] for i in source]


def _draw(alignments, task_name, attention, folder):
    """Draw alignments into a file in the folder, which is made if need be; return its path."""
    from npllm.lab.alignment import alignment_figure  # matplotlib takes a while to load

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"alignment-{task_name}-{attention}.png"
    figure = alignment_figure(alignments, f"{task_name}, {attention} attention: what each written token was taken from")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)
    return path

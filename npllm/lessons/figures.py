"""Figures of the tour, as PNG files: what the terminal shows in numbers, drawn.

merges.png      vocabulary size against bytes per token
windows.png     which ids each window sees, with stride and overlap
positions.png   sinusoidal positions, and how alike any two of them are
attention.png   scores, mask and weights of the followed tokens, and the heads of the trained model
loss.png        the loss, with the line of knowing nothing
"""

import math
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from npllm.attention.masks import causal_mask
from npllm.batching.windows import sliding_windows
from npllm.layers.positions import sinusoidal_positions
from npllm.utils.files import atomic_write
from npllm.utils.terminal import readable_tokens, visible

LONGEST_LABEL = 12  # characters; beyond, the labels would leave no room for the picture


def draw_figures(walk, folder):
    """Draw all figures of a finished Walk into a folder, which is made if need be; return their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawings = {
        "merges.png": merges,
        "windows.png": windows,
        "positions.png": positions,
        "attention.png": attention,
        "loss.png": loss,
    }
    paths = []
    for name, draw in drawings.items():
        with atomic_write(folder / name) as file, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # the font's box stands for such a character
            draw(walk).savefig(file, format="png", dpi=120)
        paths.append(folder / name)
    return paths


def merges(walk):
    """How the text gets shorter as the vocabulary grows."""
    num_bytes = len(walk.text.encode())
    # a pair that overlaps itself (aaa) is counted at every place but merged at every other: the curve is off by these
    lengths = num_bytes - np.cumsum([0, *(merge.count for merge in walk.found["merges"])])
    figure, axes = _figure(1, "Byte pair encoding: every merge makes the text shorter")
    axes.plot(256 + np.arange(len(lengths)), num_bytes / lengths, color="C0")
    axes.set_xlabel("vocabulary size")
    axes.set_ylabel("bytes per token")
    axes.grid(alpha=0.3)
    return figure


def windows(walk):
    """The first windows as bars over the ids."""
    dataset = walk.found["dataset"]
    length, stride, shown = dataset.max_length, dataset.stride, min(6, len(dataset))
    starts, _ = sliding_windows(np.arange(len(dataset.ids)), length, stride)
    figure, axes = _figure(1, f"Windows of {length} ids, a stride of {stride}: targets lie one step on")
    for row in range(shown):
        first = starts[row, 0]
        axes.barh(row - 0.18, length, left=first, height=0.34, color="C0", label="inputs" if row == 0 else None)
        axes.barh(row + 0.18, length, left=first + 1, height=0.34, color="C1", label="targets" if row == 0 else None)
    axes.set_yticks(range(shown), [f"window {row}" for row in range(shown)])
    axes.invert_yaxis()
    axes.set_xlabel("position in the text, in tokens")
    axes.legend(loc="lower left")
    return figure


def positions(walk, num_positions=64, d_model=64):
    """The table of sines and cosines, and the likeness of any two rows."""
    table = sinusoidal_positions(num_positions, d_model)
    figure, (left, right) = _figure(2, "Sinusoidal positions")
    _heat(figure, left, table, "RdBu_r", "value", limits=(-1, 1))
    left.set(xlabel="channel", ylabel="position", title="clock hands, from fast to slow")
    _heat(figure, right, table @ table.T / (d_model / 2), "viridis", "cosine")
    right.set(xlabel="position", ylabel="position", title="how alike two positions are")
    return figure


def attention(walk):
    """Scores, weights without and with the mask; then every head of the trained model on the prompt."""
    names, table = walk.found["names"], walk.found["scores"]
    model, tokenizer = walk.found["model"], walk.found["tokenizer"]
    prompt = tokenizer.encode(walk.prompt, disallowed_special=())[: walk.found["context_length"]]
    tokens = [visible(token) for token in readable_tokens(tokenizer, prompt)]
    _, cache = model.forward(np.array(prompt))
    heads = cache.h[-1].attn.attention.weights
    figure, axes = _figure(4 + len(heads), "Attention: rows look, columns are looked at", columns=4)
    seen = causal_mask(*table.shape)
    limit = np.abs(table).max()
    panels = [
        ("scores x xᵀ", table, "RdBu_r", (-limit, limit)),
        ("mask", seen.astype(float), "gray", (0, 1)),
        ("weights", walk.found["weights"], "viridis", (0, 1)),
        ("causal weights, learned q and k", walk.found["causal"], "viridis", (0, 1)),
    ]
    for panel, (title, values, colours, limits) in zip(axes, panels):
        _heat(figure, panel, values, colours, "", limits)
        _label(panel, names, title)
    for head, (panel, values) in enumerate(zip(axes[4:], heads)):
        _heat(figure, panel, values, "viridis", "", (0, 1))
        _label(panel, tokens, f"trained GPT, last block, head {head}")
    return figure


def loss(walk):
    """The training."""
    return _losses(walk.found["losses"], walk.found["tokenizer"].vocab_size)


def draw_losses(path, records, vocab_size):
    """Draw the losses of a training's log (dicts with step, loss and now and then validation_loss) into a file."""
    validation = [(record["step"], record["validation_loss"]) for record in records if "validation_loss" in record]
    figure = _losses([record["loss"] for record in records], vocab_size, validation)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)


def _losses(losses, size, validation=()):
    """The loss of every step, its running mean, and the line of knowing nothing."""
    losses = np.array(losses)
    figure, axes = _figure(1, "Learning to predict the next token")
    axes.plot(losses, color="C0", alpha=0.25, label="each step")
    width = min(25, len(losses))
    axes.plot(
        np.arange(width - 1, len(losses)),
        np.convolve(losses, np.full(width, 1 / width), "valid"),
        color="C0",
        label=f"mean of {width} steps",
    )
    if validation:
        axes.plot(*zip(*validation), color="C1", marker="o", markersize=3, label="on text never seen")
    axes.axhline(math.log(size), color="C3", linestyle="--", label=f"knowing nothing: ln {size} = {math.log(size):.2f}")
    axes.set(xlabel="step", ylabel="cross-entropy", ylim=(0, None))
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def _figure(panels, title, columns=2):
    columns = min(columns, panels)
    rows = -(-panels // columns)
    figure = Figure(
        figsize=(7.5 if panels == 1 else 5 * columns, 4.5 if rows == 1 else 4.4 * rows), layout="constrained"
    )
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[panels:]:
        unused.set_visible(False)
    return figure, axes[0] if panels == 1 else axes[:panels]


def _heat(figure, axes, values, colours, label, limits=(None, None)):
    image = axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1])
    figure.colorbar(image, ax=axes, label=label, shrink=0.8)


def _label(axes, names, title):
    names = [name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…" for name in names]
    axes.set_title(title)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)

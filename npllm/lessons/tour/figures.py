"""The figures of the tour, as PNG files.

merges.png      bytes per token against vocabulary size
windows.png     input and target windows, with their stride
positions.png   sinusoidal positional encodings, and their cosine similarity
attention.png   scores, mask and attention weights of the prompt's tokens, and all heads of the trained GPT's last block
loss.png        training loss and uniform baseline
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from npllm.attention.masks import causal_mask
from npllm.batching.windows import sliding_windows
from npllm.layers.positions import sinusoidal_positions
from npllm.lessons.tour.state import TourState
from npllm.utils.plots import heat_map, loss_curve, panels, save_figure
from npllm.utils.terminal import readable_tokens, visible

MAX_LABEL = 12  # characters of a token; longer labels would make the picture too small


def draw_figures(state: TourState, folder: str | Path) -> list[Path]:
    """Draw all figures of a finished tour into a folder, which is created if it does not exist; return their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "merges.png": merges(state),
        "windows.png": windows(state),
        "positions.png": positions(),
        "attention.png": attention(state),
        "loss.png": loss_curve(state.losses, state.tokenizer.vocab_size),
    }
    for name, figure in figures.items():
        save_figure(figure, folder / name)
    return [folder / name for name in figures]


def merges(state: TourState) -> Figure:
    """Bytes per token against vocabulary size."""
    num_bytes = len(state.text.encode())
    # overlapping occurrences of a pair (aaa) are all counted, but only every other one is merged: a small error
    num_tokens = num_bytes - np.cumsum([0, *(merge.count for merge in state.merges)])
    figure, (axes,) = panels(1, "Byte pair encoding: bytes per token")
    axes.plot(256 + np.arange(len(num_tokens)), num_bytes / num_tokens, color="C0")
    axes.set(xlabel="vocabulary size", ylabel="bytes per token")
    axes.grid(alpha=0.3)
    return figure


def windows(state: TourState) -> Figure:
    """The first windows as bars over the positions in the text."""
    dataset = state.dataset
    length, stride, num_rows = dataset.max_length, dataset.stride, min(6, len(dataset))
    positions, _ = sliding_windows(np.arange(len(dataset.ids)), length, stride)
    figure, (axes,) = panels(1, f"Windows of {length} ids with stride {stride}; targets are shifted by one")
    for row in range(num_rows):
        start = positions[row, 0]
        axes.barh(row - 0.18, length, left=start, height=0.34, color="C0", label="inputs" if row == 0 else None)
        axes.barh(row + 0.18, length, left=start + 1, height=0.34, color="C1", label="targets" if row == 0 else None)
    axes.set_yticks(range(num_rows), [f"window {row}" for row in range(num_rows)])
    axes.invert_yaxis()
    axes.set_xlabel("position in the text (tokens)")
    axes.legend(loc="lower left")
    return figure


def positions(num_positions: int = 64, d_model: int = 64) -> Figure:
    """The sinusoidal positional encodings, and the cosine similarity of every two of them."""
    table = sinusoidal_positions(num_positions, d_model)
    figure, (left, right) = panels(2, "Sinusoidal positional encoding")
    heat_map(left, table, "RdBu_r", "value", limits=(-1, 1))
    left.set(xlabel="channel", ylabel="position", title="sines and cosines, from high to low frequency")
    heat_map(right, table @ table.T / (d_model / 2), "viridis", "cosine similarity")
    right.set(xlabel="position", ylabel="position", title="cosine similarity of two positions")
    return figure


def attention(state: TourState) -> Figure:
    """Scores, mask, weights without and with the causal mask, and each head of the trained GPT's last block."""
    prompt = state.tokenizer.encode(state.prompt, disallowed_special=())[: state.dataset.max_length]
    tokens = [visible(token) for token in readable_tokens(state.tokenizer, prompt)]
    _, cache = state.model.forward(np.array(prompt))
    heads = cache.h[-1].attn.attention.weights
    figure, axes = panels(4 + len(heads), "Attention: each row is a query, each column a key", num_columns=4)
    largest = np.abs(state.scores).max()
    mask = causal_mask(*state.scores.shape)
    heat_map(axes[0], state.scores, "RdBu_r", limits=(-largest, largest))
    heat_map(axes[1], mask.astype(float), "gray", limits=(0, 1))
    heat_map(axes[2], state.weights, "viridis", limits=(0, 1))
    heat_map(axes[3], state.causal_weights, "viridis", limits=(0, 1))
    titles = ["scores x xᵀ", "causal mask", "attention weights", "causal attention weights"]
    for panel, title in zip(axes, titles):
        _label(panel, state.tokens, title)
    for head, (panel, weights) in enumerate(zip(axes[4:], heads)):
        heat_map(panel, weights, "viridis", limits=(0, 1))
        _label(panel, tokens, f"trained GPT, last block, head {head}")
    return figure


def _label(axes: Axes, tokens: list[str], title: str) -> None:
    tokens = [token if len(token) <= MAX_LABEL else token[: MAX_LABEL - 1] + "…" for token in tokens]
    axes.set_title(title)
    axes.set_xticks(range(len(tokens)), tokens, rotation=90)
    axes.set_yticks(range(len(tokens)), tokens)

"""Figures with matplotlib: panels, heat maps, the loss curve. matplotlib's global state (pyplot) is not used."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from npllm.utils.files import atomic_write

MEAN_STEPS = 25  # of the running mean in the loss curve


def panels(number: int, title: str, num_columns: int = 2) -> tuple[Figure, list[Axes]]:
    """A figure with a title and `number` axes in rows of `num_columns`."""
    num_columns = min(num_columns, number)
    num_rows = -(-number // num_columns)
    size = (7.5 if number == 1 else 5 * num_columns, 4.5 if num_rows == 1 else 4.4 * num_rows)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    axes = list(figure.subplots(num_rows, num_columns, squeeze=False).ravel())
    for unused in axes[number:]:
        unused.set_visible(False)
    return figure, axes[:number]


def heat_map(
    axes: Axes,
    values: np.ndarray,
    colours: str,
    label: str = "",
    limits: tuple[float | None, float | None] = (None, None),
) -> None:
    """Draw a matrix as colours, with a colour bar."""
    image = axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1])
    axes.get_figure().colorbar(image, ax=axes, label=label, shrink=0.8)


def loss_curve(losses: Sequence[float], vocab_size: int, validation: Sequence[tuple[int, float]] = ()) -> Figure:
    """The loss of every step, its running mean, the validation losses (step, loss) and the uniform baseline."""
    figure, (axes,) = panels(1, "Loss")
    axes.plot(losses, color="C0", alpha=0.25, label="training loss")
    length = min(MEAN_STEPS, len(losses))
    mean = np.convolve(losses, np.full(length, 1 / length), "valid")
    axes.plot(np.arange(length - 1, len(losses)), mean, color="C0", label=f"mean over {length} steps")
    if validation:
        axes.plot(*zip(*validation), color="C1", marker="o", markersize=3, label="validation loss")
    baseline = math.log(vocab_size)
    axes.axhline(baseline, color="C3", linestyle="--", label=f"uniform baseline: ln {vocab_size} = {baseline:.2f}")
    axes.set(xlabel="step", ylabel="cross-entropy (nats per token)", ylim=(0, None))
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def save_loss_curve(path: str | Path, records: Sequence[Mapping[str, Any]], vocab_size: int) -> None:
    """Draw the loss curve of a training log, whose records have "step", "loss" and some of them "validation_loss"."""
    validation = [(record["step"], record["validation_loss"]) for record in records if "validation_loss" in record]
    save_figure(loss_curve([record["loss"] for record in records], vocab_size, validation), path)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as a PNG file, or as an SVG file if the name says so: the same bytes for the same figure."""
    is_svg = Path(path).suffix == ".svg"
    options: dict[str, Any] = {"format": "svg", "metadata": {"Date": None}} if is_svg else {"format": "png", "dpi": 120}
    reproducible = matplotlib.rc_context({"svg.hashsalt": "npllm", "svg.fonttype": "none"})
    with atomic_write(path) as file, warnings.catch_warnings(), reproducible:
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the font draws a box for such a character
        figure.savefig(file, **options)

"""The figure of an alignment: the attention weights of every generated token over the source.

    source tokens → columns        generated tokens → rows        weight → colour

Bahdanau, Cho, Bengio 2015, figure 3.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

INCHES_PER_TOKEN = 0.42  # height of a row, width of a column

Alignment = tuple[np.ndarray, Sequence[str], Sequence[str]]  # weights (T, S), T generated tokens, S source tokens


def alignment_figure(alignments: Sequence[Alignment], title: str) -> Figure:
    """Draw alignments side by side.

    Raises ValueError if there are none, or if the numbers of tokens are not those of the weights.
    """
    if not alignments:
        raise ValueError("alignments is empty; there must be at least one to draw")
    for weights, generated, source in alignments:
        if np.shape(weights) != (len(generated), len(source)):
            raise ValueError(
                f"weights has shape {np.shape(weights)}; it must be {(len(generated), len(source))}, one row for each "
                "generated token and one column for each source token"
            )
    num_columns = [len(source) for _, _, source in alignments]
    num_rows = max(len(generated) for _, generated, _ in alignments)
    size = (1.5 + INCHES_PER_TOKEN * (sum(num_columns) + 3 * len(alignments)), 2 + INCHES_PER_TOKEN * num_rows)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, len(alignments), squeeze=False, width_ratios=num_columns)[0]
    for axes, (weights, generated, source) in zip(panels, alignments):
        image = axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=1.0)
        axes.set_xticks(range(len(source)), source, rotation=90 if max(map(len, source)) > 1 else 0)
        axes.set_yticks(range(len(generated)), generated)
        axes.xaxis.tick_top()
    panels[0].set_ylabel("generated tokens")
    figure.colorbar(image, ax=list(panels), label="attention weight", shrink=0.8)
    return figure

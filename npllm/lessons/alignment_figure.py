"""The picture of an alignment: which source tokens each written token was taken from.

    source tokens → columns        written tokens → rows        weight → shade

Bahdanau, Cho, Bengio 2015, figure 3, is the picture that made attention known.
"""

import numpy as np
from matplotlib.figure import Figure

INCHES = 0.42  # for each row and column


def alignment_figure(alignments, title):
    """Draw alignments side by side; each is the weights (T, S), the T written tokens and the S source tokens.

    Returns a matplotlib Figure. Raises ValueError where names and weights do not fit.
    """
    if not alignments:
        raise ValueError("alignments is empty; there must be at least one to draw")
    for weights, written, source in alignments:
        if np.shape(weights) != (len(written), len(source)):
            raise ValueError(
                f"weights has shape {np.shape(weights)}; it must be {(len(written), len(source))}, a row for each "
                "written token and a column for each source token"
            )
    widths = [len(source) for _, _, source in alignments]
    tallest = max(len(written) for _, written, _ in alignments)
    figure = Figure(
        figsize=(1.5 + INCHES * (sum(widths) + 3 * len(widths)), 2 + INCHES * tallest), layout="constrained"
    )
    figure.suptitle(title)
    panels = figure.subplots(1, len(alignments), squeeze=False, width_ratios=widths)[0]
    for panel, (weights, written, source) in zip(panels, alignments):
        image = panel.imshow(weights, cmap="Blues", vmin=0.0, vmax=1.0)
        panel.set_xticks(range(len(source)), source, rotation=90 if max(map(len, source)) > 1 else 0)
        panel.set_yticks(range(len(written)), written)
        panel.xaxis.tick_top()
    panels[0].set_ylabel("written")
    figure.colorbar(image, ax=list(panels), label="weight", shrink=0.8)
    return figure

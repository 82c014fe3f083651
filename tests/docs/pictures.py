"""`python -m tests.docs.pictures`: draw the pictures of README.md.

attention.png   the attention weights of a small GPT that the tour trained: one panel for each head
speed.svg       time of other implementations relative to npllm, from benchmarks/measured/results.json
"""

import io
import json
import sys

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from npllm.utils.terminal import readable_tokens, visible
from tests.docs.reading import ROOT
from tests.docs.sections import MEASURED, SPEED_ROWS, speed_row

FOLDER = ROOT / "tests" / "docs"


def attention() -> Figure:
    """Four heads of the last block, over the tokens of the tour's prompt."""
    from npllm.lessons.tour.run import run_tour

    state = run_tour(Console(file=io.StringIO()))
    ids = state.tokenizer.encode(state.prompt, disallowed_special=())[: state.dataset.max_length]
    tokens = [visible(token) for token in readable_tokens(state.tokenizer, ids)]
    _, cache = state.model.forward(np.array(ids))
    heads = cache.h[-1].attn.attention.weights
    figure = Figure(figsize=(10, 3.1), layout="constrained")
    axes = figure.subplots(1, len(heads), sharey=True)
    for head, (panel, weights) in enumerate(zip(axes, heads)):
        image = panel.imshow(weights, cmap="viridis", vmin=0, vmax=1)
        panel.set_title(f"head {head}", fontsize=9)
        panel.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=6)
        panel.set_yticks(range(len(tokens)), tokens, fontsize=6)
    axes[0].set_ylabel("query", fontsize=8)
    figure.supxlabel("key", fontsize=8)
    figure.colorbar(image, ax=list(axes), label="attention weight", shrink=0.8)
    return figure


def speed() -> Figure:
    """The rows of README.md on a logarithmic scale."""
    content = json.loads(MEASURED.read_text(encoding="utf-8"))
    rows = [speed_row(content, *row) for row in SPEED_ROWS]
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axes = figure.subplots()
    for index, (label, baseline, ratio) in enumerate(rows):
        axes.barh(index, ratio - 1, left=1, color="#2a788e" if ratio >= 1 else "#b5651d")
        offset, side = (1.03, "left") if ratio >= 1 else (0.97, "right")
        axes.text(ratio * offset, index, f"{ratio:.2f}", va="center", ha=side, fontsize=8)
        rows[index] = f"{label}  (against {baseline})"
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.25, 10)
    axes.set_xticks([0.25, 0.5, 1, 2, 4, 8], ["¼", "½", "1", "2", "4", "8"])
    axes.minorticks_off()
    axes.axvline(1, color="black", linewidth=1)
    figure.supxlabel("time of the other relative to that of npllm: right of 1 npllm is faster", fontsize=8)
    return figure


def main() -> None:
    """Draw both."""
    attention().savefig(FOLDER / "attention.png", dpi=100)
    speed().savefig(FOLDER / "speed.svg", metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())

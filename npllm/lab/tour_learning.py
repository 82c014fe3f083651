"""The tour's end: a model learns to predict the next token, and continues the prompt."""

import math

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from npllm.lab.display import printable, station
from npllm.lab.learning import AttentionModel, EmbeddingModel, generate, train
from npllm.training import AdamW

CHANNELS = 64
NUM_HEADS = 4
SHOWN = 8  # rows of the loss table where nothing moves on the screen
NEW_TOKENS = 60


def embeddings_learn(walk, number):
    """The table of embeddings moves so that the loss falls."""
    tokenizer, loader = walk.found["tokenizer"], walk.found["loader"]
    model = EmbeddingModel(tokenizer.vocab_size, CHANNELS, rng=walk.rng)
    start = model.wte.weight.data.copy()
    steps = min(100, walk.steps)
    losses = list(train(model, AdamW(model.named_parameters(), 1e-2, weight_decay=0.0), loader, steps))
    moved = np.linalg.norm(model.wte.weight.data - start, axis=1)
    seen = np.isin(np.arange(tokenizer.vocab_size), walk.found["ids"])
    station(
        walk.console,
        number,
        "embeddings learn",
        f"ids (B, T) → vectors (B, T, C) → logits (B, T, V): {model.num_parameters():,} parameters, {steps} steps",
        "Embeddings begin as random numbers. Guess the next token from the present one alone; the gradient of the loss "
        "says for every row that was used which way to move. Rows of tokens that never occur stay where they are.",
    )
    rest = moved[~seen].max(initial=0.0)
    walk.console.print(
        f"loss {losses[0]:.2f} → {losses[-1]:.2f}; {int(seen.sum())} rows of tokens that occur moved by "
        f"{moved[seen].mean():.2f} on average, the other {int((~seen).sum())} by {rest:.2f} at most",
        highlight=False,
    )


def attention_learns(walk, number):
    """Embeddings and causal attention learn together, before the eyes."""
    tokenizer, loader, length = (walk.found[key] for key in ("tokenizer", "loader", "context_length"))
    model = AttentionModel(tokenizer.vocab_size, length, CHANNELS, NUM_HEADS, rng=walk.rng)
    station(
        walk.console,
        number,
        "learning",
        f"ids (B, T) → logits (B, T, V) → loss: {model.num_parameters():,} parameters, {walk.steps} steps",
        "Now with a layer of attention, so that every position can use what came before it. Forward gives the loss, "
        f"backward the gradient of each parameter, AdamW a small step. Who knows nothing pays "
        f"ln {tokenizer.vocab_size} = {math.log(tokenizer.vocab_size):.2f}.",
    )
    steps = train(model, AdamW(model.named_parameters(), 3e-3), loader, walk.steps)
    losses = _with_progress(walk, steps)
    walk.found |= {"model": model, "losses": losses}
    table = Table("step", show_edge=False)
    table.add_column("loss", justify="right")
    for step in np.unique(np.linspace(0, len(losses) - 1, SHOWN).astype(int)):
        table.add_row(f"{step:,}", f"{losses[step]:.3f}")
    walk.console.print(table)


def speak(walk, number):
    """The model continues the prompt."""
    tokenizer, model = walk.found["tokenizer"], walk.found["model"]
    prompt = tokenizer.encode(walk.prompt, disallowed_special=())
    station(
        walk.console,
        number,
        "words that follow",
        f"{len(prompt)} ids → logits of the last position → one id more, {NEW_TOKENS} times",
        "Ask the model for the next token, draw one from its probabilities, append it, ask again. It has read "
        "nothing but this text, over and over: some of it comes back by heart, and the rest is in its manner.",
    )
    text = tokenizer.decode(list(generate(model, prompt, NEW_TOKENS, walk.rng, temperature=0.5)))
    walk.found["continuation"] = text
    walk.console.print(Text.assemble((printable(walk.prompt), "bold"), printable(text)))


def _with_progress(walk, steps):
    """Run through the steps with a bar that shows the loss; return the losses."""
    columns = (TextColumn("loss {task.fields[loss]:.3f}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    losses = []
    with Progress(*columns, console=walk.console, disable=not walk.console.is_terminal) as bar:
        task = bar.add_task("", total=walk.steps, loss=math.nan)
        for loss in steps:
            losses.append(loss)
            bar.update(task, advance=1, loss=float(np.mean(losses[-20:])))
    return losses


STATIONS = [embeddings_learn, attention_learns, speak]

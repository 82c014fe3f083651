"""Experiment 16, first part: attention sinks, induction heads and the logit lens, layer by layer."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from npllm.attention.paths import attention_path
from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.published_model import RANDOM, passages, subject, with_random_weights
from npllm.layers.cross_entropy import cross_entropy
from npllm.models import Decoder


@dataclass(frozen=True)
class Scale:
    """The sizes of one run; `model` is a name of `npllm models`, or None for a tiny model with random weights."""

    num_seeds: int
    model: str | None
    length: int  # tokens of a passage; the repeated sequence is half as long


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each model and layer: attention to the first token, the best induction head, the loss of the logit lens."""
    name, model, text = subject(scale.model)
    rng = np.random.default_rng(seed)
    inputs, targets = passages(text, 1, scale.length, rng)
    half = rng.integers(model.config.vocab_size, size=(1, scale.length // 2))
    repeated = np.concatenate([half, half], axis=1)
    result = []
    for label, each in ((name, model), (RANDOM, with_random_weights(model, seed))):
        of_text = [(sink_share(weights), lens_loss(each, x, targets)) for weights, x in layers(each, inputs)]
        induction = [induction_score(weights) for weights, _ in layers(each, repeated)]
        for layer, ((sink, lens), score) in enumerate(zip(of_text, induction), start=1):
            row = {"model": label, "layer": layer, "first token": sink, "induction": score, "lens loss": lens}
            result.append(row)
    return result


def layers(model: Decoder, ids: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The attention weights (1, H, T, T) and the hidden states (1, T, C) after each block of a pre-norm decoder."""
    x = model.embed_tokens(ids) * model.config.embedding_multiplier
    with attention_path("plain"):
        for block in model.layers:
            x, cache = block.forward(x)
            yield cache.self_attn.attention.weights, x


def sink_share(weights: np.ndarray) -> float:
    """The mean attention weight of the first position, of all heads and of the queries in the second half."""
    return float(weights[..., weights.shape[-2] // 2 :, 0].mean())


def induction_score(weights: np.ndarray) -> float:
    """For a sequence of n tokens that is repeated: the weight of the token after the earlier one, of the best head.

    Position n + i has the token of position i, and an induction head attends to i + 1.
    """
    n = weights.shape[-1] // 2
    i = np.arange(n - 1)
    return float(weights[0][:, n + i, i + 1].mean(axis=-1).max())


def lens_loss(model: Decoder, x: np.ndarray, targets: np.ndarray) -> float:
    """The loss if the norm and the head of the model are applied to the hidden states of a layer."""
    return float(cross_entropy(model.head_forward(model.norm(x))[0], targets))


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    name, numbers = results.distinct("model")[0], results.distinct("layer")
    best = {}
    for quantity in ("first token", "induction"):
        layer = max(numbers, key=lambda number: results.interval(quantity, model=name, layer=number).mean)
        best[quantity] = layer, results.interval(quantity, model=name, layer=layer)
    random = [
        max(results.interval(quantity, model=RANDOM, layer=n).mean for n in numbers)
        for quantity in ("first token", "induction")
    ]
    lens = [results.interval("lens loss", model=name, layer=n) for n in (1, numbers[-1] // 2, numbers[-1])]
    falls = [
        results.difference("lens loss", {"model": name, "layer": b}, {"model": name, "layer": a})
        for a, b in ((1, numbers[-1] // 2), (numbers[-1] // 2, numbers[-1]))
    ]
    because = (
        f"With {name}: the first token gets {best['first token'][1]} of the attention in layer "
        f"{best['first token'][0]} of {numbers[-1]} ({random[0]:.3f} at most with random weights); the best induction "
        f"head is in layer {best['induction'][0]} with a weight of {best['induction'][1]} ({random[1]:.3f} at most "
        f"with random weights); the loss of the logit lens is {lens[0]} after the first layer, {lens[1]} after half of "
        f"them and {lens[2]} after the last."
    )
    holds = (
        best["first token"][1].is_above(max(0.3, 3 * random[0])),
        best["induction"][1].is_above(max(0.3, 3 * random[1])),
        all(fall.is_below(0) for fall in falls),
    )
    return Verdict("supported" if all(holds) else "depends" if any(holds) else "not supported", because)


EXPERIMENT = Experiment(
    name="published-layers",
    claim="A trained LLM has attention sinks and induction heads, and each layer knows more of the next token.",
    question="How much attention does the first token get, do heads copy a repeated sequence, and what do layers know?",
    setting=(
        "SmolLM2-135M-Instruct (`npllm models fetch smollm2`), and the same architecture with random weights. The "
        "shipped text, which was written for this project, in random passages; a random sequence of tokens that is "
        "repeated once."
    ),
    measure=(
        "For each layer: the mean attention weight of the first position; on the repeated sequence the weight of the "
        "token after the earlier occurrence, for the best head; the loss if the last norm and the head are applied to "
        "the layer's output (logit lens)."
    ),
    rule=(
        "Three parts, by 95% intervals over passages: in its strongest layer the first token gets more than 0.3 of the "
        "attention and three times that with random weights; the same for the weight of the best induction head; the "
        "loss of the logit lens falls from the first layer to half of the layers and from there to the last. Supported "
        "if all hold, not supported if none, otherwise it depends on the part."
    ),
    keys=("model", "layer"),
    scales={
        "miniature": Scale(2, None, 16),
        "default": Scale(5, "smollm2", 128),
        "full": Scale(10, "smollm2", 512),
    },
    rows=rows,
    judge=judge,
    plots=tuple(Plot("layer", quantity, "model") for quantity in ("first token", "induction", "lens loss")),
)

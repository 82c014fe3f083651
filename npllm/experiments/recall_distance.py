"""Experiment 1: recall, and the gradient that reaches the recalled token, against its distance."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npllm.attention.variants.delta_net import Delta
from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.linear_attention import LinearAttn
from npllm.before_transformers import Seq2Seq
from npllm.experiments.equal_size import build_of_size
from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.recall import Model, RecallTask, input_gradient, recall_accuracy, train_recall
from npllm.models import Decoder, DecoderConfig
from npllm.models.decoder_config import MLP, AttentionConfig

D_MODEL, EMBEDDING_DIM, NUM_LAYERS, NUM_HEADS = 32, 16, 2, 2
NUM_PARAMETERS = 18_000
BATCH_SIZE = 32
Build = Callable[..., Model]


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    num_steps: int
    distances: tuple[int, ...]
    learning_rates: tuple[float, ...] = (1e-2,)  # the accuracy is that of the best one
    num_examples: int = 300  # for the accuracy
    num_gradients: int = 16


def _recurrent(cell: str, attention: str = "none") -> Callable[[RecallTask], Build]:
    """Encoder of the context, decoder of one step; the width is the size of the state."""
    return lambda task: (
        lambda width, **options: Seq2Seq(
            task.vocab_size, task.num_values, EMBEDDING_DIM, width, attention, cell, **options
        )
    )


def _decoder(attention: AttentionConfig) -> Callable[[RecallTask], Build]:
    """Two blocks without positions; the width is that of the feed-forward network."""
    return lambda task: (
        lambda width, **options: Decoder(
            DecoderConfig(
                task.vocab_size,
                task.length + 1,
                D_MODEL,
                NUM_LAYERS,
                attention,
                MLP(width),
                tied=False,
                positions="none",
            ),
            **options,
        )
    )


RECURRENT = {"RNN": _recurrent("rnn"), "GRU": _recurrent("gru"), "LSTM": _recurrent("lstm")}
ATTENTION = {
    "LSTM, Bahdanau": _recurrent("lstm", "additive"),
    "transformer": _decoder(GQA(NUM_HEADS)),
    "linear attention": _decoder(LinearAttn(NUM_HEADS)),
    "DeltaNet": _decoder(Delta(NUM_HEADS)),
}


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each model and distance: the gradient before training and the accuracy after it."""
    result = []
    for name, builder in (RECURRENT | ATTENTION).items():
        for distance in scale.distances:
            task = RecallTask(num_slots=1, num_values=16, length=distance)
            accuracies = []
            for learning_rate in scale.learning_rates:
                rng = np.random.default_rng((seed, distance))
                model = build_of_size(builder(task), NUM_PARAMETERS, rng)
                gradient = input_gradient(task, model, scale.num_gradients, rng, distance)
                train_recall(task, model, scale.num_steps, rng, BATCH_SIZE, learning_rate)
                accuracies.append(recall_accuracy(task, model, scale.num_examples, rng, distance))
            result.append(
                {
                    "model": name,
                    "distance": distance,
                    "accuracy": max(accuracies),
                    "gradient": gradient,
                    "parameters": model.num_parameters(),
                }
            )
    return result


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    near, far = results.distinct("distance")[0], results.distinct("distance")[-1]
    change, ratio, texts = {}, {}, []
    for name in results.distinct("model"):
        first, last = {"model": name, "distance": near}, {"model": name, "distance": far}
        change[name] = results.difference("accuracy", last, first)
        ratio[name] = float(np.mean(results.values("gradient", **last)) / np.mean(results.values("gradient", **first)))
        accuracies = [results.interval("accuracy", **where) for where in (first, last)]
        texts.append(f"{name} {accuracies[0]} and {accuracies[1]} ({ratio[name]:.1g})")
    because = (
        f"Accuracy at distance {near} and at {far}, and in parentheses the ratio of the untrained models' gradient "
        f"norms, far over near: {'; '.join(texts)}. Chance is 0.0625."
    )
    lost, kept = [change[name].is_below(-0.25) for name in RECURRENT], [change[n].is_above(-0.1) for n in ATTENTION]
    gradients = all(ratio[n] < 0.01 for n in RECURRENT) and all(ratio[n] > 0.01 for n in ATTENTION)
    learned = all(results.interval("accuracy", model=name, distance=near).mean > 0.9 for name in change)
    if all(lost) and all(kept) and gradients and learned:
        return Verdict("supported", because)
    contradicts = [change[n].is_above(-0.1) and learned for n in RECURRENT] + [
        change[n].is_below(-0.25) for n in ATTENTION
    ]
    return Verdict("not supported" if any(contradicts) else "depends", because)


EXPERIMENT = Experiment(
    name="recall-distance",
    claim="Recurrent models lose distant context; models with attention do not.",
    question="How do the accuracy of recall and the gradient of the recalled token depend on its distance?",
    setting=(
        "One of 16 values is at a random position among noise tokens, and a question follows. For each distance a "
        "model is trained on contexts of that many tokens, and asked for a value at the first of them. RNN, GRU and "
        "LSTM as encoder and decoder, the LSTM with additive attention, and decoders of two blocks without positions. "
        "All have about 18,000 parameters, equal steps and the same learning rates, of which the best counts."
    ),
    measure=(
        "The share of values that are recalled after training, and before it the norm of the gradient of the loss "
        "with respect to the embedding of the value."
    ),
    rule=(
        "A model loses context if the interval of its accuracy at the largest distance minus that at the smallest is "
        "below −0.25, and keeps it if the interval is above −0.1. Supported if RNN, GRU and LSTM lose and all models "
        "with attention keep it, all have learned the smallest distance (accuracy above 0.9), and the gradient at the "
        "largest distance is below 0.01 of that at the smallest for the former and above for the latter. Not "
        "supported if one of the former keeps it, all having learned the smallest distance, or one of the latter "
        "loses it; otherwise it depends."
    ),
    keys=("model", "distance"),
    scales={
        "miniature": Scale(2, 3, (2, 8), num_examples=20, num_gradients=2),
        "default": Scale(3, 200, (2, 8, 32)),
        "full": Scale(5, 300, (2, 8, 32, 64), (3e-3, 1e-2)),
    },
    rows=rows,
    judge=judge,
    plots=(
        Plot("distance", "accuracy", "model", log_x=True),
        Plot("distance", "gradient", "model", log_x=True, log_y=True),
    ),
)

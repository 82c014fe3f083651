"""Experiment 15: softmax attention against its relatives, at equal parameters: text and recall."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npllm.attention.variants.delta_net import Delta
from npllm.attention.variants.differential import Differential
from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.linear_attention import LinearAttn
from npllm.attention.variants.mla import MLA
from npllm.attention.variants.options import QKNorm, SlidingWindow, StridedMask
from npllm.attention.variants.relative_bias import ALiBi, T5Bias
from npllm.attention.variants.rope import RoPE
from npllm.attention.variants.shaw import Shaw
from npllm.batching import sliding_windows
from npllm.experiments.equal_size import build_of_size
from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.recall import RecallTask, recall_accuracy, train_recall
from npllm.experiments.statistics import mean_interval
from npllm.experiments.texts import shipped_ids
from npllm.models import Decoder, DecoderConfig
from npllm.models.decoder_config import MLP, AttentionConfig
from npllm.training import AdamW, training_step

D_MODEL, NUM_LAYERS, NUM_HEADS, D_HIDDEN = 32, 2, 4, 64
LENGTH, BATCH_SIZE = 32, 16
TASK = RecallTask(num_slots=4, num_values=4, length=15, num_noise=4)
SOFTMAX, LINEAR, DELTA = "softmax", "linear", "delta rule"
RELATIVES: dict[str, AttentionConfig] = {
    SOFTMAX: GQA(NUM_HEADS),
    "grouped-query": GQA(NUM_HEADS, num_kv_heads=2),
    "multi-query": GQA(NUM_HEADS, num_kv_heads=1),
    "RoPE": GQA(NUM_HEADS, rope=RoPE()),
    "ALiBi": GQA(NUM_HEADS, relative_bias=ALiBi()),
    "T5's bias": GQA(NUM_HEADS, relative_bias=T5Bias()),
    "Shaw": Shaw(NUM_HEADS),
    "QK norm": GQA(NUM_HEADS, qk_norm=QKNorm()),
    "soft cap": GQA(NUM_HEADS, softcap=10.0),
    "window of 8": GQA(NUM_HEADS, window=SlidingWindow(8, 1)),
    "strided": GQA(NUM_HEADS, sparsity=StridedMask(4)),
    "output gate": GQA(NUM_HEADS, output_gate=True),
    "differential": Differential(NUM_HEADS // 2),
    "MLA": MLA(NUM_HEADS, kv_lora_rank=16, head_dim=8, qk_rope_head_dim=4),
    LINEAR: LinearAttn(NUM_HEADS),
    DELTA: Delta(NUM_HEADS),
}


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    num_steps: int
    learning_rates: tuple[float, ...] = (1e-2,)  # the best one counts, for each relative and measure
    num_examples: int = 500  # of recall


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each relative and learning rate: the validation loss on the text, and the accuracy of recall."""
    result = []
    for name, attention in RELATIVES.items():
        for learning_rate in scale.learning_rates:
            loss, num_parameters = _text_loss(attention, scale, learning_rate, seed)
            rng = np.random.default_rng(seed)
            model = _model(TASK.vocab_size, attention, rng)
            train_recall(TASK, model, scale.num_steps, rng, 2 * BATCH_SIZE, learning_rate)
            recall = recall_accuracy(TASK, model, scale.num_examples, rng)
            result.append(
                {
                    "attention": name,
                    "learning rate": learning_rate,
                    "loss": loss,
                    "recall": recall,
                    "parameters": num_parameters,
                }
            )
    return result


def _model(vocab_size: int, attention: AttentionConfig, rng: np.random.Generator) -> Decoder:
    """The width of the feed-forward network makes up for what the attention has more or less than softmax attention."""

    def config(attention: AttentionConfig, width: int) -> DecoderConfig:
        return DecoderConfig(
            vocab_size, LENGTH, D_MODEL, NUM_LAYERS, attention, MLP(width), tied=False, positions="learned"
        )

    num_parameters = Decoder(config(RELATIVES[SOFTMAX], D_HIDDEN), init=False).num_parameters()
    return build_of_size(lambda width, **options: Decoder(config(attention, width), **options), num_parameters, rng)


def _text_loss(attention: AttentionConfig, scale: Scale, learning_rate: float, seed: int) -> tuple[float, int]:
    """The loss of the last tenth of the shipped text after training on the rest, and the number of parameters."""
    ids, vocab_size = shipped_ids()
    split = 9 * len(ids) // 10
    inputs, targets = sliding_windows(ids[:split], LENGTH, 1)
    rng = np.random.default_rng(seed)
    model = _model(vocab_size, attention, rng)
    optimizer = AdamW(model.named_parameters(), learning_rate)
    for step in range(scale.num_steps):
        optimizer.learning_rate = learning_rate * (1.0 - step / scale.num_steps)
        chosen = rng.integers(len(inputs), size=BATCH_SIZE)
        training_step(model, optimizer, inputs[chosen], targets[chosen], max_grad_norm=1.0)
    return float(model.loss(*sliding_windows(ids[split:], LENGTH, LENGTH))), model.num_parameters()


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    others = [name for name in results.distinct("attention") if name != SOFTMAX]
    best_loss = {name: _best(results, "loss", name, np.min) for name in (SOFTMAX, *others)}
    best_recall = {name: _best(results, "recall", name, np.max) for name in (SOFTMAX, *others)}
    loss = {name: mean_interval(best_loss[name] - best_loss[SOFTMAX]) for name in others}
    recall = {name: mean_interval(best_recall[name] - best_recall[SOFTMAX]) for name in others}
    better = [name for name in others if loss[name].is_below(-0.02) or recall[name].is_above(0.05)]
    worse = [name for name in others if loss[name].is_above(0.02) or recall[name].is_below(-0.05)]
    unharmed = [name for name in better if name not in worse]

    def listed(names: list[str]) -> str:
        return ", ".join(f"{name} ({loss[name].mean:+.3f}, {recall[name].mean:+.2f})" for name in names) or "none"

    because = (
        f"Softmax attention has a loss of {mean_interval(best_loss[SOFTMAX])} nats and recalls "
        f"{mean_interval(best_recall[SOFTMAX])}. Better in one measure and worse in none (differences of loss and "
        f"recall): {listed(unharmed)}. Worse in one or both: {listed(worse)}. No difference was shown for the others: "
        f"{listed([name for name in others if name not in better + worse])}."
    )
    if not better:
        return Verdict("supported", because)
    dominates = any(loss[name].is_below(-0.02) and recall[name].is_above(0.05) for name in others)
    return Verdict("not supported" if dominates else "depends", because)


def _best(results: Results, quantity: str, name: str, best: Callable) -> np.ndarray:
    """Over the learning rates, for each seed."""
    rates = results.distinct("learning rate")
    return best([results.values(quantity, **{"attention": name, "learning rate": rate}) for rate in rates], axis=0)


EXPERIMENT = Experiment(
    name="attention-relatives",
    claim="At equal parameters no relative of softmax attention is better, in loss or in recall.",
    question="What do the variants of attention gain or lose against plain softmax attention?",
    setting=(
        "Decoders of two blocks of 32 with learned positions and four heads (differential attention: two), the "
        "width of the feed-forward network chosen so that all have the same number of parameters. Equal steps, equal "
        "tokens and the same learning rates, of which the best counts. Characters of the shipped text; recall of one "
        "of 4 slots that are set at random positions among noise."
    ),
    measure="The validation loss in nats per character (windows of 32), and the share of values that are recalled.",
    rule=(
        "A relative is better (worse) in loss if the interval of its paired difference to softmax attention is below "
        "−0.02 (above 0.02) nats, in recall if it is above 0.05 (below −0.05). Supported if no relative is better in "
        "either, not supported if one is better in both, otherwise it depends."
    ),
    keys=("attention", "learning rate"),
    scales={
        "miniature": Scale(2, 2, num_examples=20),
        "default": Scale(3, 200),
        "full": Scale(5, 400, (3e-3, 1e-2)),
    },
    rows=rows,
    judge=judge,
    plots=(Plot("learning rate", "loss", "attention"), Plot("learning rate", "recall", "attention")),
)

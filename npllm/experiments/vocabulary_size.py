"""Experiment 4: BPE needs no unknown token, and what the size of its vocabulary buys."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from npllm.batching import sliding_windows
from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.inspect.cost import count_operations
from npllm.models import GPT, GPTConfig
from npllm.tokenizers import BPETokenizer, train_bpe
from npllm.tokenizers.words import split_words
from npllm.training import AdamW, training_step
from npllm.utils import corpora

BATCH_SIZE = 8
PROBES = ("naïve café", "Привет, мир!", "東京は雨", "😀👍🏽", "\u0000\t\u200b\r\n", "مرحبا", "∀x ∈ ℝ: x² ≥ 0")


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    num_byte_steps: int  # of training with the 256 bytes; the others get as many floating-point operations
    vocab_sizes: tuple[int, ...] = (256, 320, 512, 1024, 2048)
    d_model: int = 32
    length: int = 64  # positions


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each V: unknown words, exactly decoded texts, bytes a token, and the loss per byte at equal compute."""
    rng = np.random.default_rng(seed)
    training, held_out = split(corpora.read("story"), rng)
    random_text = "".join(map(chr, rng.integers(1, 0xD800, 200).tolist()))
    configs = [GPTConfig(v, scale.length, scale.d_model, num_layers=2, num_heads=2) for v in scale.vocab_sizes]
    costs = [count_operations(config, BATCH_SIZE, scale.length)["training step"] for config in configs]
    result = []
    for config, cost in zip(configs, costs):
        tokenizer = train_bpe(training, config.vocab_size)
        probes = [*PROBES, held_out, random_text]
        exact = [tokenizer.decode(tokenizer.encode(text)) == text for text in probes]
        num_steps = round(scale.num_byte_steps * costs[0] / cost)
        ids = np.array(tokenizer.encode(training))
        model = train(config, ids, num_steps, np.random.default_rng((seed, 1)))
        result.append(
            {
                "data": "shipped text",
                "V": config.vocab_size,
                "unknown words": unknown_words(training, held_out, config.vocab_size),
                "exact": float(np.mean(exact)),
                "bytes a token": len(held_out.encode()) / len(tokenizer.encode(held_out)),
                "steps": float(num_steps),
                "loss per byte": loss_per_byte(model, tokenizer, held_out, scale.length),
            }
        )
    return result


def split(text: str, rng: np.random.Generator) -> tuple[str, str]:
    """The text without a block of an eighth of it at a random place, and the block."""
    size = len(text) // 8
    start = int(rng.integers(len(text) - size))
    return text[:start] + text[start + size :], text[start : start + size]


def unknown_words(training: str, held_out: str, vocab_size: int) -> float:
    """The share of the held-out words that are not among the `vocab_size` most frequent words of the training text."""
    known = {word for word, _ in Counter(split_words(training)).most_common(vocab_size)}
    words = split_words(held_out)
    return sum(word not in known for word in words) / len(words)


def train(config: GPTConfig, ids: np.ndarray, num_steps: int, rng: np.random.Generator) -> GPT:
    """A GPT after this many steps on random windows."""
    inputs, targets = sliding_windows(ids, config.context_length, 1)
    model = GPT(config, rng=rng)
    optimizer = AdamW(model.named_parameters(), 3e-3)
    for _ in range(num_steps):
        chosen = rng.integers(len(inputs), size=BATCH_SIZE)
        training_step(model, optimizer, inputs[chosen], targets[chosen])
    return model


def loss_per_byte(model: GPT, tokenizer: BPETokenizer, text: str, length: int) -> float:
    """The nats of all predicted tokens, divided by their bytes."""
    inputs, targets = sliding_windows(np.array(tokenizer.encode(text)), length, length)
    num_bytes = len(tokenizer.decode_bytes(targets.reshape(-1).tolist()))
    return float(model.loss(inputs, targets)) * targets.size / num_bytes


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    sizes = results.distinct("V")
    exact = all(row["exact"] == 1.0 for row in results.rows)
    unknown = results.interval("unknown words", V=sizes[-1])
    longer = results.slope("bytes a token", "V")
    steps = [results.difference("loss per byte", {"V": b}, {"V": a}) for a, b in zip(sizes, sizes[1:])]
    against_bytes = [results.difference("loss per byte", {"V": v}, {"V": sizes[0]}) for v in sizes[1:]]
    best = min(sizes, key=lambda v: results.interval("loss per byte", V=v).mean)
    share = np.mean([row["exact"] for row in results.rows])
    because = (
        f"BPE decodes {100 * share:.4g}% of the texts exactly at every V; a vocabulary of the {sizes[-1]:,} most "
        f"frequent words lacks {unknown} of the held-out words. The bytes a token grow from "
        f"{results.interval('bytes a token', V=sizes[0])} to {results.interval('bytes a token', V=sizes[-1])}. "
        f"At equal compute the loss per byte is {results.interval('loss per byte', V=sizes[0])} nats with "
        f"{sizes[0]} tokens, {results.interval('loss per byte', V=best)} with {best:,}, the best, and "
        f"{results.interval('loss per byte', V=sizes[-1])} with {sizes[-1]:,}."
    )
    if not (exact and unknown.is_above(0) and longer.is_above(0)):
        return Verdict("not supported", because)
    if all(step.is_below(0) for step in steps):
        return Verdict("supported", because)
    return Verdict("depends" if any(x.is_below(0) for x in against_bytes) else "not supported", because)


EXPERIMENT = Experiment(
    name="vocabulary-size",
    claim="BPE needs no unknown token, and a larger vocabulary buys longer tokens and a lower loss per byte.",
    question="Which texts does BPE not represent, and at equal compute, how does the loss per byte depend on V?",
    setting=(
        "BPE trained on the shipped text without a random eighth; a GPT (2 layers of 32, windows of 64 tokens), the "
        "number of steps chosen for equal floating-point operations. The parameters outside of the embedding are "
        "equal. Texts for the round trip: the held-out eighth, other scripts, control characters, random characters."
    ),
    measure=(
        "The share of texts that are decoded exactly; the share of held-out words that are not among the V most "
        "frequent training words; bytes a token and the loss in nats per byte on the held-out text."
    ),
    rule=(
        "Not supported if a text is not decoded exactly, if the largest vocabulary of words has no unknown word, or if "
        "the bytes a token do not grow with V. Else supported if the loss per byte falls from each V to the next, the "
        "95% intervals of the paired differences below 0; depends if only some V is below the 256 bytes; not supported "
        "if none is."
    ),
    keys=("data", "V"),
    scales={
        "miniature": Scale(2, 6, (256, 300), 8, 16),
        "default": Scale(4, 600),
        "full": Scale(8, 2000, (256, 288, 320, 384, 512, 768, 1024, 2048), 48),
    },
    rows=rows,
    judge=judge,
    plots=(Plot("V", "bytes a token", "data", log_x=True), Plot("V", "loss per byte", "data", log_x=True)),
)

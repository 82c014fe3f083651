"""Experiment 11: the shortcut (residual connection) and the place of the norm, against depth."""

import math
from dataclasses import dataclass

import numpy as np

from npllm.core.cache import Cache
from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.small_training import mean_loss, random_batches, shipped_split, train
from npllm.experiments.statistics import Interval
from npllm.models import GPT, GPTConfig
from npllm.models.transformer_block import TransformerBlock
from npllm.training.clipping import grad_norm

KINDS = {  # (where the norms are, whether there are shortcuts)
    "pre-norm": ("before", True),
    "post-norm": ("after", True),
    "no norm": ("none", True),
    "pre-norm, no shortcut": ("before", False),
    "no norm, no shortcut": ("none", False),
}
TINY = 1e-30  # a gradient below it counts as this one: its logarithm is finite
PAIRS = (("pre-norm", "pre-norm, no shortcut"), ("no norm", "no norm, no shortcut"))  # with and without shortcuts


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    num_steps: int
    depths: tuple[int, ...] = (2, 6, 16)
    d_model: int = 32
    length: int = 32
    batch_size: int = 16
    learning_rate: float = 3e-3


class Block(TransformerBlock):
    """x = shortcut · x + attn(x),  y = shortcut · x + mlp(x), each with a norm before it, after the sum, or none."""

    norm: str
    has_shortcut: bool

    def forward(self, x, **options):
        """y, and the caches of the steps by the children's names."""
        caches = {}
        for norm, name in (("ln_1", "attn"), ("ln_2", "mlp")):
            h = x
            if self.norm == "before":
                h, caches[norm] = self.children[norm].forward(h)
            h, caches[name] = self.children[name].forward(h)
            x = x + h if self.has_shortcut else h
            if self.norm == "after":
                x, caches[norm] = self.children[norm].forward(x)
        return x, Cache(**caches)

    def backward(self, dy, cache):
        """The steps in reverse order; with a shortcut the gradient goes to both terms of the sum."""
        for norm, name in (("ln_2", "mlp"), ("ln_1", "attn")):
            if self.norm == "after":
                dy = self.children[norm].backward(dy, getattr(cache, norm))
            dh = self.children[name].backward(dy, getattr(cache, name))
            if self.norm == "before":
                dh = self.children[norm].backward(dh, getattr(cache, norm))
            dy = dy + dh if self.has_shortcut else dh
        return dy


class Model(GPT):
    """A GPT of such blocks. Matrices of blocks and head are drawn from N(0, 1/inputs), embeddings from N(0, ½)."""

    def __init__(self, kind: str, config: GPTConfig, rng: np.random.Generator) -> None:
        self.kind = kind
        super().__init__(config, rng=rng)

    def init_weights(self, rng: np.random.Generator) -> None:
        """The standard deviations above keep the variance of most steps; the draws are the same for every kind."""
        for name, parameter in self.named_parameters():
            if parameter.data.ndim == 2:
                variance = 0.5 if name.startswith("w") else 1.0 / parameter.shape[1]
                parameter.data[...] = math.sqrt(variance) * rng.standard_normal(parameter.shape)
            else:
                parameter.data[...] = 0 if name.endswith(".bias") else 1

    def _new_block(self, layer: int, dtype: str) -> TransformerBlock:
        c = self.config
        block = Block(c.d_model, c.context_length, 0.0, c.num_heads, dtype=dtype, init=False)
        block.norm, block.has_shortcut = KINDS[self.kind]
        return block


def block_gradients(model: GPT, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The norm of the gradient of each block's parameters, from the first block to the last      (L)"""
    model.zero_grad()
    model.add_loss_gradients(inputs, targets)
    norms = [grad_norm([(n, p) for n, p in block.named_parameters() if p.grad is not None]) for block in model.h]
    model.zero_grad()
    return np.array(norms)


def unigram_entropy() -> float:
    """The mean loss of the best prediction that does not depend on the context, in nats."""
    train_ids, _, _ = shipped_split()
    frequencies = np.bincount(train_ids) / len(train_ids)
    frequencies = frequencies[frequencies > 0]
    return float(-(frequencies * np.log(frequencies)).sum())


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each kind and depth: the first block's gradient over the last one's before training, and the loss after."""
    train_ids, validation_ids, vocab_size = shipped_split()
    result = []
    for kind in KINDS:
        for depth in scale.depths:
            rng = np.random.default_rng((seed, depth))
            config = GPTConfig(vocab_size, scale.length, scale.d_model, depth, num_heads=2, tied=False)
            model = Model(kind, config, rng)
            gradients = block_gradients(model, *next(random_batches(train_ids, scale.length, 16, 1, rng)))
            batches = random_batches(train_ids, scale.length, scale.batch_size, scale.num_steps, rng)
            with np.errstate(over="ignore", invalid="ignore"):
                try:
                    train(model, batches, scale.num_steps, scale.learning_rate, warmup_steps=scale.num_steps // 10)
                    loss = mean_loss(model, validation_ids, scale.length)
                except FloatingPointError:  # of clipping: a gradient is not finite
                    loss = math.inf
            result.append(
                {
                    "model": kind,
                    "depth": depth,
                    "log10 gradient": float(np.log10(max(gradients[0], TINY) / max(gradients[-1], TINY))),
                    "loss": loss if math.isfinite(loss) else math.log(vocab_size),
                }
            )
    return result


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    depth = results.distinct("depth")[-1]
    gradient = {kind: results.interval("log10 gradient", model=kind, depth=depth) for kind in KINDS}
    loss = {kind: results.interval("loss", model=kind, depth=depth) for kind in KINDS}

    def excess(worse: str, better: str) -> Interval:
        return results.difference("loss", {"model": worse, "depth": depth}, {"model": better, "depth": depth})

    keeps = [gradient[without].is_below(-1) and gradient[with_].is_above(-1) for with_, without in PAIRS]
    trains = [excess(without, with_).is_above(0.05) for with_, without in PAIRS]
    place = excess("post-norm", "pre-norm")
    texts = [f"{kind}: {gradient[kind]} and {loss[kind]}" for kind in KINDS]
    because = (
        f"At {depth} blocks, log10 of the first block's gradient over the last one's, and the loss after training: "
        f"{'; '.join(texts)}. Without shortcuts the loss is larger by {excess(*PAIRS[0][::-1])} nats where there are "
        f"norms and by {excess(*PAIRS[1][::-1])} where there are none; with post-norm by {place} than with pre-norm. "
        f"The entropy of single characters is {unigram_entropy():.3f} nats."
    )
    if all(keeps) and all(trains) and place.is_above(0):
        return Verdict("supported", because)
    return Verdict("depends" if any(keeps) or any(trains) else "not supported", because)


EXPERIMENT = Experiment(
    name="shortcuts",
    claim="The shortcut keeps gradients alive, and pre-norm trains where post-norm does not.",
    question="How do the first block's gradient and the loss after training depend on depth, shortcuts and norms?",
    setting=(
        "A character GPT of width 32 on the shipped text, with the same matrices, draws, batches and steps of AdamW "
        "for every kind of block: a norm before each half, after each sum, or none; with and without shortcuts. "
        "Matrices from N(0, 1/inputs), warm-up in a tenth of the steps, gradients clipped at 1."
    ),
    measure=(
        "Before training: log10 of the gradient norm of the first block's parameters over that of the last block's. "
        "After training: the validation loss in nats, ln V where training diverged."
    ),
    rule=(
        "Compared at the largest depth. Gradients: the interval of the logarithm is below −1 without the shortcut and "
        "above −1 with it. Training: the interval of the loss without the shortcut minus that with it is above 0.05. "
        "Supported if both hold with norms (pre-norm) and without norms, and the loss of post-norm minus that of "
        "pre-norm is above 0. Not supported if neither holds with or without norms; otherwise it depends."
    ),
    keys=("model", "depth"),
    scales={
        "miniature": Scale(2, 6, (1, 3), d_model=16, length=16, batch_size=4),
        "default": Scale(3, 120),
        "full": Scale(5, 250, (2, 6, 16, 32)),
    },
    rows=rows,
    judge=judge,
    plots=(Plot("depth", "log10 gradient", "model", log_x=True), Plot("depth", "loss", "model", log_x=True)),
)

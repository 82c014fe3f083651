"""Experiment 13, third part: what a smaller key-value cache costs: grouped-query, multi-query, MLA."""

from dataclasses import dataclass

import numpy as np

from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.mla import MLA
from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.lookup_task import LookupTask
from npllm.experiments.small_training import train
from npllm.models import Decoder, DecoderConfig
from npllm.models.decoder_config import MLP, AttentionConfig, Norm

WIDTH, HEAD_DIM = 64, 8
ATTENTION: dict[str, AttentionConfig] = {
    "multi-head": GQA(8),
    "grouped-query, 2 key heads": GQA(8, num_kv_heads=2),
    "multi-query": GQA(8, num_kv_heads=1),
    "MLA, latent of 32": MLA(8, kv_lora_rank=32, head_dim=HEAD_DIM, qk_rope_head_dim=0),
    "MLA, latent of 16": MLA(8, kv_lora_rank=16, head_dim=HEAD_DIM, qk_rope_head_dim=0),
    "2 heads": GQA(2, head_dim=HEAD_DIM),  # controls: the keys of grouped-query and multi-query attention, and as
    "1 head": GQA(1, head_dim=HEAD_DIM),  # many queries as keys
}
CONTROLS = ("2 heads", "1 head")
MARGIN = 0.05  # nats
TASK = LookupTask()


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    num_steps: int
    num_layers: int = 1
    batch_size: int = 16
    learning_rate: float = 5e-3


def hidden_size(attention: AttentionConfig) -> int:
    """The hidden size of the feed-forward network with which a block has as many parameters as with multi-head."""
    multi_head = ATTENTION["multi-head"].build(WIDTH, 1, init=False).num_parameters()
    missing = multi_head - attention.build(WIDTH, 1, init=False).num_parameters()
    return 4 * WIDTH + round(missing / (2 * WIDTH + 1))


def build(name: str, num_layers: int, rng: np.random.Generator) -> Decoder:
    """The model with this attention."""
    attention = ATTENTION[name]
    config = DecoderConfig(
        TASK.num_tokens,
        TASK.length,
        WIDTH,
        num_layers,
        attention,
        MLP(hidden_size(attention)),
        Norm("layer_norm"),
        positions="learned",
    )
    return Decoder(config, rng=rng)


def cache_bytes(model: Decoder, ids: np.ndarray) -> float:
    """The bytes that the cache of one layer keeps for a token      (T) → ()"""
    kv_cache = model.new_kv_cache()
    model.hidden_states(ids[None], kv_cache=kv_cache)
    return kv_cache.nbytes / len(kv_cache.layers) / len(ids)


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each attention: the bytes of the cache, the number of parameters, and the validation loss."""
    validation = TASK.batch(200, np.random.default_rng(12345))
    result = []
    for name in ATTENTION:
        model, rng = build(name, scale.num_layers, np.random.default_rng(seed)), np.random.default_rng((seed, 1))
        batches = (TASK.batch(scale.batch_size, rng) for _ in range(scale.num_steps))
        train(model, batches, scale.num_steps, scale.learning_rate, warmup_steps=scale.num_steps // 10)
        result.append(
            {
                "attention": name,
                "model": "decoder",
                "cache bytes": cache_bytes(model, validation[0][0]),
                "parameters": model.num_parameters(),
                "loss": float(model.loss(*validation)),
            }
        )
    return result


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    names = [name for name in ATTENTION if name != "multi-head"]
    base = {"attention": "multi-head"}
    excess = {name: results.difference("loss", {"attention": name}, base) for name in names}
    size = {name: results.interval("cache bytes", attention=name).mean for name in ATTENTION}
    texts = ", ".join(f"{name} ({size[name]:.0f} bytes) {excess[name]}" for name in names)
    because = (
        f"Multi-head attention keeps {size['multi-head']:.0f} bytes for a token in a layer and reaches a loss of "
        f"{results.interval('loss', **base)} nats. Differences of the loss from it: {texts}."
    )
    sharing = [excess[name] for name in names if name not in CONTROLS]
    if all(interval.is_below(MARGIN) for interval in sharing):
        return Verdict("supported", because)
    return Verdict("not supported" if all(interval.is_above(MARGIN) for interval in sharing) else "depends", because)


EXPERIMENT = Experiment(
    name="shared-keys",
    claim="Grouped-query attention, multi-query attention and MLA shrink the key-value cache at little cost in loss.",
    question="What is the loss at equal parameters against the bytes of the key-value cache for each token?",
    setting=(
        "A decoder (1 layer of 64, 8 heads of 8, learned positions); the target is a random table's entry for the "
        "tokens 1 and 3 positions before, so attention is needed. The same batches and steps for all; the hidden size "
        "of the feed-forward network makes the number of parameters equal. Controls with as many heads as the others "
        "have key heads."
    ),
    measure="Bytes that a layer's cache keeps for a token in float32, and the validation loss in nats.",
    rule=(
        "Supported if the interval of the loss minus that of multi-head attention is below 0.05 nats for grouped-query "
        "(1/4 of the bytes), multi-query (1/8) and MLA (1/4 and 1/8); not supported if it is above 0.05 for all of "
        "them; otherwise it depends. The controls do not decide."
    ),
    keys=("attention", "model"),
    scales={
        "miniature": Scale(2, 4, 1, 4),
        "default": Scale(4, 500),
        "full": Scale(8, 2000),
    },
    rows=rows,
    judge=judge,
    plots=(Plot("attention", "loss", "model"), Plot("attention", "cache bytes", "model", log_y=True)),
)

"""The published model of experiment 16, passages for it, and a model of the same shape with random weights.

Where no model is named, as in the tests, a tiny model with random weights takes its place, and results call it so.
"""

from functools import lru_cache

import numpy as np

from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.rope import RoPE
from npllm.experiments.texts import shipped_ids
from npllm.models import Decoder, DecoderConfig
from npllm.models.pretrained import open_pretrained
from npllm.utils import corpora

TINY, RANDOM = "a tiny random model", "random weights"


@lru_cache(maxsize=1)
def subject(name: str | None) -> tuple[str, Decoder, np.ndarray]:
    """What results call the model, the model, and the ids of the shipped text.

    Raises FileNotFoundError that says how to get the model if it is not at hand, ValueError unless it is a Decoder.
    """
    if name is None:
        ids, vocab_size = shipped_ids()
        config = DecoderConfig(vocab_size, 64, d_model=16, num_layers=2, attention=GQA(2, rope=RoPE()))
        return TINY, Decoder(config, rng=np.random.default_rng(0)), ids
    pretrained = open_pretrained(name)
    if not isinstance(pretrained.model, Decoder):
        raise ValueError(f"model is {name!r}, a {type(pretrained.model).__name__}; it must be a Decoder")
    return name, pretrained.model, np.array(pretrained.tokenizer.encode(corpora.read("story")))


def with_random_weights(model: Decoder, seed: int) -> Decoder:
    """A model of the same configuration before training."""
    return Decoder(model.config, rng=np.random.default_rng(seed))


def passages(ids: np.ndarray, count: int, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random passages of the text: inputs and targets      (N, T), (N, T)"""
    starts = rng.integers(len(ids) - length, size=count)
    windows = ids[starts[:, None] + np.arange(length + 1)]
    return windows[:, :-1], windows[:, 1:]

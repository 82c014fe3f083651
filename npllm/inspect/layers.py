"""A model layer by layer: its hidden states, its attention weights, and the logits that each layer would give.

    ids → hidden state before block 0 → … → after block L − 1,  and in each block the attention weights

For any GPT or Decoder, also a published one. `npllm tour --model` prints what it finds.

Logit lens: nostalgebraist 2020, interpreting GPT: the logit lens. Heads of the previous token, and induction heads:
Olsson et al. 2022, In-context Learning and Induction Heads. Attention to the first token: Xiao et al. 2023, Efficient
Streaming Language Models with Attention Sinks, section 3.1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, as_id_sequence, check_instance, check_list, check_shape
from npllm.models.decoder import Decoder
from npllm.models.gpt import GPT


@dataclass(frozen=True)
class Layers:
    """What `layers_of` returns, of a model with L blocks.

    hidden_states      L + 1 arrays (T, C): the input of every block, and the output of the last one
    attention_weights  L arrays (H, T, T), row t is the distribution of query t over the keys; None for a layer whose
                       attention is no distribution, such as linear attention
    """

    hidden_states: list[np.ndarray]
    attention_weights: list[np.ndarray | None]


def layers_of(model: GPT | Decoder, ids: np.ndarray) -> Layers:
    """The hidden states and the attention weights of a sequence of ids (T)."""
    check_instance("model", model, GPT, Decoder)
    ids = as_id_sequence("ids", ids, min_length=1)
    if ids.ndim != 1:
        raise ValueError(f"ids has shape {ids.shape}; it must be (T)")
    recorder = _Recorder(model)
    with recorder:
        model.hidden_states(ids[None])
    states = [state[0] for state in recorder.states]
    return Layers(states, [_attention_weights(cache) for cache in recorder.caches])


def logit_lens(model: GPT | Decoder, hidden_state: np.ndarray) -> np.ndarray:
    """logits = head(norm(x)): what the model would predict if the given layer were its last      (..., C) → (..., V)"""
    check_instance("model", model, GPT, Decoder)
    hidden_state = as_floats(hidden_state=hidden_state)
    check_shape("hidden_state", hidden_state, "(..., C)", C=model.lm_head.weight.shape[1])
    norm = model.norm if isinstance(model, Decoder) else model.ln_f
    return model.head_forward(norm(hidden_state))[0]


def attention_to_previous(weights: np.ndarray) -> np.ndarray:
    """The mean weight of the token before the query, of each head      (H, T, T) → (H)

    Over the queries from position 2 on, for which it is not the first token.
    """
    weights = _as_weights(weights)
    return weights[:, np.arange(2, weights.shape[1]), np.arange(1, weights.shape[1] - 1)].mean(axis=-1)


def attention_to_first(weights: np.ndarray) -> np.ndarray:
    """The mean weight of the first token, of each head, over the queries from position 2 on      (H, T, T) → (H)"""
    weights = _as_weights(weights)
    return weights[:, 2:, 0].mean(axis=-1)


def attention_to_itself(weights: np.ndarray) -> np.ndarray:
    """The mean weight of the query's own token, of each head, from position 2 on      (H, T, T) → (H)"""
    weights = _as_weights(weights)
    return weights[:, np.arange(2, weights.shape[1]), np.arange(2, weights.shape[1])].mean(axis=-1)


def induction(weights: np.ndarray) -> np.ndarray:
    """For a sequence that consists of two equal halves of N ids: the mean weight, of each head, of the token that
    followed the query's token in the first half      (H, 2N, 2N) → (H)

    The query at position N + i has the token of position i; the token that followed it is at position i + 1.
    """
    weights = _as_weights(weights)
    half = weights.shape[1] // 2
    return weights[:, np.arange(half, 2 * half - 1), np.arange(1, half)].mean(axis=-1)


def strongest_head(weights: list[np.ndarray | None], measure: Any) -> tuple[float, int, int]:
    """The largest value of a measure such as `attention_to_previous`, with its layer and head."""
    if not callable(measure):
        raise TypeError(f"measure is {measure!r:.80}; it must be a function such as attention_to_previous")
    found = [
        (float(value), layer, head)
        for layer, table in enumerate(check_list("weights", weights))
        if table is not None
        for head, value in enumerate(measure(table))
    ]
    if not found:
        raise ValueError("the model has no layer with attention weights")
    return max(found, key=lambda entry: entry[0])


def _as_weights(weights: np.ndarray) -> np.ndarray:
    """The attention weights (H, T, T); raises ValueError unless there are at least three positions."""
    weights = as_floats(weights=weights)
    check_shape("weights", weights, "(H, T, T)")
    if weights.shape[1] < 3:
        raise ValueError(f"weights has shape {weights.shape}; it must have at least three positions")
    return weights


class _Recorder:
    """A context in which the blocks of a model record their inputs, the last output, and their caches."""

    def __init__(self, model: GPT | Decoder) -> None:
        self.blocks = model.layers if isinstance(model, Decoder) else model.h
        self.states: list[np.ndarray] = []
        self.caches: list[Cache] = []

    def __enter__(self) -> "_Recorder":
        for block in self.blocks:
            object.__setattr__(block, "forward", self._recording(block.forward))
        return self

    def __exit__(self, *error: Any) -> None:
        for block in self.blocks:
            del block.forward  # the attribute of this object; the method of its class remains

    def _recording(self, forward: Any) -> Any:
        def recording(x: np.ndarray, *arguments: Any, **options: Any) -> tuple[np.ndarray, Cache]:
            if not self.states:
                self.states.append(x)
            y, cache = forward(x, *arguments, **options)
            self.states.append(y)
            self.caches.append(cache)
            return y, cache

        return recording


def _attention_weights(cache: Cache) -> np.ndarray | None:
    core = getattr(getattr(cache, "self_attn", None) or getattr(cache, "attn", None), "attention", None)
    weights = getattr(core, "weights", None)
    if weights is None or not np.allclose(weights.sum(axis=-1), 1.0, atol=1e-3):
        return None
    return weights.reshape(-1, *weights.shape[-2:])

"""The cost of a GPT, computed from its configuration: parameters, floating-point operations and bytes.

V vocabulary, L layers, C channels, F hidden channels of the feed-forward network (4 C in GPT-2), H heads, T positions,
B sequences. A product of matrices (M, K) and (K, N) has 2 M K N operations, a multiplication and an addition for each
term; all other operations are few in comparison.

Kaplan et al. 2020, Scaling Laws for Neural Language Models, section 2.1.
"""

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import check_instance, check_positive
from npllm.core.module import Module
from npllm.models.gpt import GPTConfig

KEPT_BY_ACTIVATION = {  # arrays of the hidden size that the backward needs, besides the activation's output
    "relu": 1, "squared_relu": 1, "sigmoid": 0, "tanh": 0, "quick_gelu": 1, "silu": 1, "gelu": 1, "gelu_tanh": 1,
}  # fmt: skip


def count_parameters(config: GPTConfig) -> dict[str, int]:
    """The number of parameters of each part, and their "total"; a tied head is counted once."""
    check_instance("config", config, GPTConfig)
    V, T, C, L = config.vocab_size, config.context_length, config.d_model, config.num_layers
    F = _hidden(config)
    attention = C * 3 * C + C * C + C + (3 * C if config.qkv_bias else 0)
    feed_forward = C * F + F + F * C + C
    parts = {
        "token embeddings": V * C,
        "position embeddings": T * C,
        "attention": L * attention,
        "feed-forward": L * feed_forward,
        "norms": (2 * L + 1) * 2 * C,
        "head": 0 if config.tied else V * C,
    }
    return parts | {"total": sum(parts.values())}


def count_operations(config: GPTConfig, batch_size: int, length: int) -> dict[str, int]:
    """The operations of one forward pass by part, their sum "forward", and three times that, "training step".

    The backward has two products for each of the forward: one for the gradient of each factor.
    """
    _check_sizes(config, batch_size, length)
    C, rows = config.d_model, batch_size * length
    parts = {
        "attention projections": config.num_layers * 2 * rows * (3 * C * C + C * C),
        "scores and context": config.num_layers * 2 * (2 * batch_size * length * length * C),
        "feed-forward": config.num_layers * 2 * rows * (2 * C * _hidden(config)),
        "head": 2 * rows * C * config.vocab_size,
    }
    forward = sum(parts.values())
    return parts | {"forward": forward, "training step": 3 * forward}


def count_activation_bytes(
    config: GPTConfig, batch_size: int, length: int, dtype: str = "float32", recompute: bool = False
) -> int:
    """The bytes that `GPT.loss_forward` keeps for its backward, without dropout; `activation_bytes` measures them.

    Each block keeps 8 C + 2 F + 2 numbers for every position: the outputs of its norms (2 C) and two standard
    deviations, the inputs of its four linear maps (C, C, C and F), q, k and v (3 C), and GELU's input (F); and
    its attention weights, one for every pair of positions. Sigmoid and tanh keep their output alone. With `recompute`
    each block keeps its input (C) and nothing else.
    """
    _check_sizes(config, batch_size, length)
    C, rows, itemsize = config.d_model, batch_size * length, np.dtype(dtype).itemsize
    block = rows * C if recompute else _block_size(config, batch_size, length)
    end = rows * (2 * C + 1) + rows * config.vocab_size + rows + config.vocab_size  # norm, head, loss
    integers = rows * (8 + 8 + 1) + length * 8  # ids, targets, which of them count; positions
    return (config.num_layers * block + end) * itemsize + integers


def count_training_bytes(
    config: GPTConfig, batch_size: int, length: int, dtype: str = "float32", recompute: bool = False
) -> dict[str, int]:
    """The bytes of a training step with AdamW: weights, gradients, both averages, activations; and their sum.

    With `recompute` the activations are the inputs of all blocks, and all that one block keeps.
    """
    _check_sizes(config, batch_size, length)
    itemsize = np.dtype(dtype).itemsize
    weights = count_parameters(config)["total"] * itemsize
    one_block = _block_size(config, batch_size, length) * itemsize if recompute else 0
    parts = {
        "weights": weights,
        "gradients": weights,
        "averages": 2 * weights,
        "activations": count_activation_bytes(config, batch_size, length, dtype, recompute) + one_block,
    }
    return parts | {"total": sum(parts.values())}


def activation_bytes(model: Module, cache: Cache) -> int:
    """The bytes of memory that a cache keeps alive, each buffer once, without the model's own parameters."""
    own = Cache(parameters=[parameter.data for _, parameter in model.named_parameters()]).buffers()
    return sum(buffer.nbytes for key, buffer in cache.buffers().items() if key not in own)


def _check_sizes(config: GPTConfig, batch_size: int, length: int) -> None:
    check_instance("config", config, GPTConfig)
    check_positive(batch_size=batch_size, length=length)


def _block_size(config: GPTConfig, batch_size: int, length: int) -> int:
    """How many numbers a block keeps for its backward."""
    hidden = (1 + KEPT_BY_ACTIVATION[config.activation]) * _hidden(config)
    return batch_size * length * (8 * config.d_model + hidden + 2) + batch_size * config.num_heads * length * length


def _hidden(config: GPTConfig) -> int:
    return 4 * config.d_model if config.d_hidden is None else config.d_hidden

"""What the book and the notes print in chapter 3, from six words in three dimensions.

The tables that the book makes from random weights are reproduced with those weights: PyTorch draws them from the book's
seed, npllm computes.
"""

import numpy as np
import pytest
import torch

from npllm import functional as F
from npllm.attention import (
    CausalAttention,
    MultiHeadAttention,
    MultiHeadAttentionWrapper,
    SelfAttentionV1,
    SelfAttentionV2,
    SimplifiedSelfAttention,
    attention_scores,
    attention_scores_by_loops,
    attention_scores_of_query,
    context_of_query,
    context_vectors,
)

INPUTS = np.array(  # Your journey starts with one step
    [
        [0.43, 0.15, 0.89],
        [0.55, 0.87, 0.66],
        [0.57, 0.85, 0.64],
        [0.22, 0.58, 0.33],
        [0.77, 0.25, 0.10],
        [0.05, 0.80, 0.55],
    ],
    np.float32,
)
SCORES = [0.9544, 1.4950, 1.4754, 0.8434, 0.7070, 1.0865]
WEIGHTS = [0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581]
CONTEXT = [0.4419, 0.6515, 0.5683]


def prints(array, expected):
    """Equal to what is printed with four decimals."""
    np.testing.assert_allclose(array, expected, rtol=0, atol=0.5001e-4)


def test_one_query():
    scores = attention_scores_of_query(INPUTS[1], INPUTS)
    prints(scores, SCORES)
    prints(F.normalize_by_sum(scores), [0.1455, 0.2278, 0.2249, 0.1285, 0.1077, 0.1656])
    prints(F.softmax_naive(scores), WEIGHTS)
    prints(F.softmax(scores), WEIGHTS)
    prints(context_of_query(F.softmax(scores), INPUTS), CONTEXT)


def test_all_queries():
    expected = [
        [0.9995, 0.9544, 0.9422, 0.4753, 0.4576, 0.6310],
        [0.9544, 1.4950, 1.4754, 0.8434, 0.7070, 1.0865],
        [0.9422, 1.4754, 1.4570, 0.8296, 0.7154, 1.0605],
        [0.4753, 0.8434, 0.8296, 0.4937, 0.3474, 0.6565],
        [0.4576, 0.7070, 0.7154, 0.3474, 0.6654, 0.2935],
        [0.6310, 1.0865, 1.0605, 0.6565, 0.2935, 0.9450],
    ]
    prints(attention_scores_by_loops(INPUTS), expected)
    prints(attention_scores(INPUTS), expected)
    weights = F.softmax(attention_scores(INPUTS))
    prints(weights[0], [0.2098, 0.2006, 0.1981, 0.1242, 0.1220, 0.1452])
    contexts = [
        [0.4421, 0.5931, 0.5790],
        [0.4419, 0.6515, 0.5683],
        [0.4431, 0.6496, 0.5671],
        [0.4304, 0.6298, 0.5510],
        [0.4671, 0.5910, 0.5266],
        [0.4177, 0.6503, 0.5645],
    ]
    prints(context_vectors(weights, INPUTS), contexts)
    prints(SimplifiedSelfAttention()(INPUTS), contexts)


def linear_weights(*names, bias=False):
    """The weights of linear layers drawn one after the other."""
    state = {}
    for name in names:
        layer = torch.nn.Linear(*((2, 2) if name == "out_proj" else (3, 2)), bias=bias or name == "out_proj")
        state |= {f"{name}.{key}": tensor.numpy() for key, tensor in layer.state_dict().items()}
    return state


QKV = ("W_query", "W_key", "W_value")


def test_self_attention_v1():
    torch.manual_seed(123)
    layer = SelfAttentionV1(3, 2)
    layer.load_state_dict({name: torch.rand(3, 2).numpy() for name in QKV})
    prints(
        layer(INPUTS),
        [[0.2996, 0.8053], [0.3061, 0.8210], [0.3058, 0.8203], [0.2948, 0.7939], [0.2927, 0.7891], [0.2990, 0.8040]],
    )


@pytest.fixture
def weights_of_seed_789():
    torch.manual_seed(789)
    return linear_weights(*QKV)


def test_self_attention_v2(weights_of_seed_789):
    layer = SelfAttentionV2(3, 2)
    layer.load_state_dict(weights_of_seed_789)
    left, right = (
        [-0.0739, -0.0748, -0.0749, -0.0760, -0.0763, -0.0754],
        [0.0713, 0.0703, 0.0702, 0.0685, 0.0679, 0.0693],
    )
    prints(layer(INPUTS), list(zip(left, right)))


def test_causal_weights(weights_of_seed_789):
    layer = CausalAttention(3, 2, context_length=6, dropout=0.0)
    layer.load_state_dict(weights_of_seed_789)
    prints(
        layer.attention_weights(INPUTS),
        [
            [1.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000],
            [0.5517, 0.4483, 0.0000, 0.0000, 0.0000, 0.0000],
            [0.3800, 0.3097, 0.3103, 0.0000, 0.0000, 0.0000],
            [0.2758, 0.2460, 0.2462, 0.2319, 0.0000, 0.0000],
            [0.2175, 0.1983, 0.1984, 0.1888, 0.1971, 0.0000],
            [0.1935, 0.1663, 0.1666, 0.1542, 0.1666, 0.1529],
        ],
    )


def test_multi_head_attention_wrapper():
    torch.manual_seed(123)
    layer = MultiHeadAttentionWrapper(3, 2, context_length=6, dropout=0.0, num_heads=2)
    layer.load_state_dict(linear_weights(*(f"heads.{head}.{name}" for head in range(2) for name in QKV)))
    y = layer(np.stack([INPUTS, INPUTS]))
    assert y.shape == (2, 6, 4)
    expected = [
        [-0.4519, 0.2216, 0.4772, 0.1063],
        [-0.5874, 0.0058, 0.5891, 0.3257],
        [-0.6300, -0.0632, 0.6202, 0.3860],
        [-0.5675, -0.0843, 0.5478, 0.3589],
        [-0.5526, -0.0981, 0.5321, 0.3428],
        [-0.5299, -0.1081, 0.5077, 0.3493],
    ]
    prints(y, [expected, expected])


def test_multi_head_attention():
    torch.manual_seed(123)
    layer = MultiHeadAttention(3, 2, context_length=6, dropout=0.0, num_heads=2)
    layer.load_state_dict(linear_weights(*QKV, "out_proj"))
    expected = [
        [0.3190, 0.4858], [0.2943, 0.3897], [0.2856, 0.3593], [0.2693, 0.3873], [0.2639, 0.3928], [0.2575, 0.4028]
    ]  # fmt: skip
    prints(layer(np.stack([INPUTS, INPUTS])), [expected, expected])

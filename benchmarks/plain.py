"""Attention and a transformer block in plain loops over lists, without NumPy.

They show what arrays are good for, and share no code with npllm: that both agree before they are timed is a test.
A sequence is a list of vectors, a vector a list of numbers.
"""

import math


def dot(a, b):
    """Σ aᵢ bᵢ"""
    return sum(x * y for x, y in zip(a, b))


def linear(rows, weight, bias=None):
    """Every row times every row of the weight."""
    bias = bias or [0.0] * len(weight)
    return [[dot(row, w) + b for w, b in zip(weight, bias)] for row in rows]


def softmax(row):
    """exp(xᵢ − m) / Σ exp(xⱼ − m)"""
    largest = max(row)
    exponentials = [math.exp(x - largest) for x in row]
    total = sum(exponentials)
    return [x / total for x in exponentials]


def softmax_backward(drow, weights):
    """yᵢ (dyᵢ − Σ dyⱼ yⱼ)"""
    mean = dot(drow, weights)
    return [y * (dy - mean) for dy, y in zip(drow, weights)]


def attention(q, k, v, scale=None, causal=False):
    """Each query against each key it may attend to, softmax, and the weighted average of the values."""
    scale = 1 / math.sqrt(len(q[0])) if scale is None else scale
    context = []
    for t, query in enumerate(q):
        num_keys = t + 1 if causal else len(k)
        weights = softmax([dot(query, key) * scale for key in k[:num_keys]])
        context.append([dot(weights, channel) for channel in zip(*v[:num_keys])])
    return context


def projected_attention(x, state, causal=False, prefix=""):
    """Attention with three linear maps, whose weights are in `state` by the names of a state_dict."""
    q, k, v = (linear(x, state[f"{prefix}{name}.weight"]) for name in ("W_query", "W_key", "W_value"))
    return attention(q, k, v, causal=causal)


def multi_head_attention(x, state, num_heads):
    """All heads in turn, each on its channels; concatenated and projected."""
    q, k, v = (linear(x, state[f"{name}.weight"]) for name in ("W_query", "W_key", "W_value"))
    return linear(attention_in_heads(q, k, v, num_heads), state["out_proj.weight"], state["out_proj.bias"])


def causal_self_attention(x, state, num_heads, prefix):
    """The same, where one linear map makes queries, keys and values."""
    qkv = linear(x, state[f"{prefix}c_attn.weight"], state[f"{prefix}c_attn.bias"])
    width = len(qkv[0]) // 3
    q, k, v = ([row[start : start + width] for row in qkv] for start in range(0, 3 * width, width))
    joined = attention_in_heads(q, k, v, num_heads)
    return linear(joined, state[f"{prefix}c_proj.weight"], state[f"{prefix}c_proj.bias"])


def attention_in_heads(q, k, v, num_heads):
    """Causal attention of each head on its channels, the heads' vectors joined."""
    width = len(q[0]) // num_heads
    heads = []
    for start in range(0, len(q[0]), width):
        cut = [[row[start : start + width] for row in rows] for rows in (q, k, v)]
        heads.append(attention(*cut, causal=True))
    return join(heads)


def join(heads):
    """The heads' vectors concatenated, position by position."""
    return [[number for vector in vectors for number in vector] for vectors in zip(*heads)]


def layer_norm(rows, weight, bias, eps=1e-5):
    """Each row to mean 0 and variance 1, then scaled and shifted."""
    normed = []
    for row in rows:
        mean = sum(row) / len(row)
        variance = sum((x - mean) ** 2 for x in row) / len(row)
        normed.append([(x - mean) / math.sqrt(variance + eps) * w + b for x, w, b in zip(row, weight, bias)])
    return normed


def gelu(x):
    """GELU in GPT-2's form."""
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def add(a, b):
    """The sum of two sequences."""
    return [[x + y for x, y in zip(one, other)] for one, other in zip(a, b)]


def transformer_block(x, state, num_heads):
    """x + attn(ln_1(x)), then the same with the feed-forward network."""
    normed = layer_norm(x, state["ln_1.weight"], state["ln_1.bias"])
    x = add(x, causal_self_attention(normed, state, num_heads, "attn."))
    normed = layer_norm(x, state["ln_2.weight"], state["ln_2.bias"])
    hidden = linear(normed, state["mlp.c_fc.weight"], state["mlp.c_fc.bias"])
    active = [[gelu(number) for number in row] for row in hidden]
    return add(x, linear(active, state["mlp.c_proj.weight"], state["mlp.c_proj.bias"]))

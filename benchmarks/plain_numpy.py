"""The formulas as one writes them first in NumPy, on whole arrays: where the story of speed starts.

Every line computes one array, so that a profile by line shows the cost of each step. Tests compare them with npllm.
"""

import math

import numpy as np


def attention(q, k, v):
    """softmax(causal(q kᵀ / √D)) v      (H, T, D), (H, T, D), (H, T, D) → (H, T, D)"""
    products = q @ k.mT
    scores = products * (1.0 / math.sqrt(q.shape[-1]))
    visible = np.tri(q.shape[-2], dtype=bool)
    scores = np.where(visible, scores, -np.inf)
    maxima = scores.max(axis=-1, keepdims=True)
    scores = scores - maxima
    exponentials = np.exp(scores)
    sums = exponentials.sum(axis=-1, keepdims=True)
    weights = exponentials / sums
    return weights @ v


def gpt_block(x, p, num_heads):
    """GPT-2's block: x = x + attn(ln_1(x)), y = x + mlp(ln_2(x))      (B, T, C) → (B, T, C)"""
    h = layer_norm(x, p["ln_1.weight"], p["ln_1.bias"])
    qkv = h @ p["attn.c_attn.weight"].T
    qkv = qkv + p["attn.c_attn.bias"]
    q, k, v = (split_heads(part, num_heads) for part in np.split(qkv, 3, axis=-1))
    context = attention(q, k, v)
    joined = context.swapaxes(-3, -2).reshape(x.shape)
    h = joined @ p["attn.c_proj.weight"].T
    h = h + p["attn.c_proj.bias"]
    x = x + h
    h = layer_norm(x, p["ln_2.weight"], p["ln_2.bias"])
    hidden = h @ p["mlp.c_fc.weight"].T
    hidden = hidden + p["mlp.c_fc.bias"]
    active = gelu(hidden)
    h = active @ p["mlp.c_proj.weight"].T
    h = h + p["mlp.c_proj.bias"]
    return x + h


def layer_norm(x, weight, bias, eps=1e-5):
    """(x − mean) / √(variance + eps) · weight + bias      (..., C) → (..., C)"""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * weight + bias


def gelu(x):
    """GELU's tanh approximation      (...) → (...)"""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))))


def sigmoid(x):
    """1 / (1 + exp(−x)), by another form where x < 0, so that nothing overflows      (...) → (...)"""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def softmax(x):
    """exp(x − max) / Σ exp(x − max)      (..., N) → (..., N)"""
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def embedding_gradient(ids, dy, num_rows):
    """dweight[id] = Σ dy over the positions with this id      (N,), (N, C) → (V, C)"""
    dweight = np.zeros((num_rows, dy.shape[-1]), dy.dtype)
    np.add.at(dweight, ids, dy)
    return dweight


def adamw(w, g, m, v, rate, beta1, beta2, eps, decay):
    """A step of AdamW without the correction of the averages; w, m and v are changed."""
    m[...] = beta1 * m + (1.0 - beta1) * g
    v[...] = beta2 * v + (1.0 - beta2) * (g * g)
    w[...] = w * (1.0 - rate * decay) - rate * m / (np.sqrt(v) + eps)


def split_heads(x, num_heads):
    """(B, T, H·D) → (B, H, T, D)"""
    return x.reshape(*x.shape[:-1], num_heads, -1).swapaxes(-3, -2)

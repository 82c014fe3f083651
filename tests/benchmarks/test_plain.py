"""The plain loops, compared with PyTorch; every benchmark compares them with npllm."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import plain

sizes = st.integers(1, 5)
seeds = st.integers(0, 2**32 - 1)


@given(sizes, sizes, sizes, sizes, st.booleans(), seeds)
def test_attention(t, s, d, e, causal, seed):
    rng = np.random.default_rng(seed)
    s = t if causal else s
    q, k, v = rng.standard_normal((t, d)), rng.standard_normal((s, d)), rng.standard_normal((s, e))
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(torch.from_numpy(x)[None] for x in (q, k, v)), is_causal=causal
    )[0]
    np.testing.assert_allclose(plain.attention(q.tolist(), k.tolist(), v.tolist(), causal=causal), expected, atol=1e-12)


@given(sizes, seeds)
def test_layer_norm_and_gelu(c, seed):
    rng = np.random.default_rng(seed)
    x, weight, bias = rng.standard_normal((3, c)), rng.standard_normal(c), rng.standard_normal(c)
    x_t, weight_t, bias_t = map(torch.from_numpy, (x, weight, bias))
    expected = torch.nn.functional.layer_norm(x_t, (c,), weight_t, bias_t)
    np.testing.assert_allclose(plain.layer_norm(x.tolist(), weight.tolist(), bias.tolist()), expected, atol=1e-10)
    expected = torch.nn.functional.gelu(x_t[0], approximate="tanh")
    np.testing.assert_allclose([plain.gelu(number) for number in x[0].tolist()], expected, atol=1e-12)

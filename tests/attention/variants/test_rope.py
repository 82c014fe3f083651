import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention import (
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    LongRoPEScaling,
    NTKScaling,
    RoPE,
    YaRNScaling,
)
from npllm.attention.variants.rope import rope_forward
from npllm.core.gradient_check import check_function_gradients
from tests.equivalence import check_function, implementation
from tests.strategies import arrays, dtypes, leading, seeds, sizes
from torch_ref.attention.variants import rope as reference

pytestmark = pytest.mark.covers("rotary")
SHORT, LONG = tuple(1.0 + 0.1 * i for i in range(16)), tuple(2.0 + i for i in range(16))
layouts = st.sampled_from(["halves", "pairs"])


@given(st.data(), dtypes, leading, sizes, st.integers(1, 4), st.integers(0, 3), layouts, st.sampled_from([1.0, 1.4]))
def test_equals_pytorch(data, dtype, batch, T, pairs, rest, layout, amplitude):
    x = data.draw(arrays((*batch, T, 2 * pairs + rest), dtype))
    positions = np.random.default_rng(data.draw(seeds)).integers(0, 1000, T)
    check_function("rotary", x, positions, F.rotary_frequencies(2 * pairs), layout=layout, amplitude=amplitude)


@given(seeds, st.integers(1, 4), layouts, st.integers(0, 10_000))
def test_scores_depend_only_on_the_distance(seed, pairs, layout, shift):
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((2, 5, 2 * pairs))
    positions, frequencies = rng.integers(0, 50, 5), F.rotary_frequencies(2 * pairs)

    def scores(shift):
        rotated = (implementation("rotary")(x, positions + shift, frequencies, layout) for x in (q, k))
        return np.einsum("td,sd->ts", *rotated)

    np.testing.assert_allclose(scores(shift), scores(0), rtol=1e-7, atol=1e-9)


@given(seeds, st.integers(1, 4))
def test_one_layout_is_the_other_after_a_permutation(seed, pairs):
    rng, rotate = np.random.default_rng(seed), implementation("rotary")
    x, frequencies, order = rng.standard_normal((3, 2 * pairs)), F.rotary_frequencies(2 * pairs), None
    order = F.halves_from_pairs(2 * pairs)
    in_pairs = rotate(x, np.arange(3), frequencies, "pairs")
    np.testing.assert_allclose(rotate(x[:, order], np.arange(3), frequencies, "halves"), in_pairs[:, order], rtol=1e-12)


@given(seeds, layouts)
def test_lengths_are_kept_and_position_0_changes_nothing(seed, layout):
    x = np.random.default_rng(seed).standard_normal((4, 6))
    rotated = implementation("rotary")(x, np.arange(4), F.rotary_frequencies(6), layout)
    np.testing.assert_allclose((rotated * rotated).sum(-1), (x * x).sum(-1), rtol=1e-12)
    np.testing.assert_array_equal(rotated[0], x[0])
    assert (rotated[1:] != x[1:]).all()


def test_by_hand():
    rotate = implementation("rotary")
    x = np.array([[1.0, 0.0, 0.0, 1.0, 5.0]])
    frequencies = np.array([math.pi / 2, math.pi / 6])
    np.testing.assert_allclose(rotate(x, [1], frequencies, "pairs"), [[0, 1, -0.5, math.sqrt(3) / 2, 5]], atol=1e-15)
    np.testing.assert_allclose(rotate(x, [1], frequencies, "halves"), [[0, -0.5, 1, math.sqrt(3) / 2, 5]], atol=1e-15)


@pytest.mark.parametrize("layout", ["halves", "pairs"])
def test_finite_differences(layout):
    rng = np.random.default_rng(0)
    options = {"positions": np.arange(4), "frequencies": F.rotary_frequencies(4), "layout": layout, "amplitude": 1.3}
    check_function_gradients(F.rotary_forward, F.rotary_backward, [rng.standard_normal((2, 4, 5))], rng, **options)


def transformers_frequencies(kind, **options):
    """inv_freq and attention factor as transformers computes them for a Llama of this shape."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = {"rope_type": kind, "rope_theta": 10000.0, **options}
    config = LlamaConfig(hidden_size=128, num_attention_heads=4, max_position_embeddings=4096, rope_parameters=scaling)
    return ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))


def test_scaled_frequencies_equal_those_of_transformers():
    R, theta = 32, 10000.0
    theirs, _ = transformers_frequencies("linear", factor=4.0)
    np.testing.assert_allclose(F.interpolated_frequencies(R, theta, 4.0), theirs, rtol=1e-6)
    theirs, amplitude = transformers_frequencies("yarn", factor=8.0, original_max_position_embeddings=512)
    np.testing.assert_allclose(F.yarn_frequencies(R, theta, 8.0, 512), theirs, rtol=1e-6)
    assert F.yarn_amplitude(8.0) == pytest.approx(amplitude)
    theirs, _ = transformers_frequencies(
        "llama3", factor=8.0, original_max_position_embeddings=512, low_freq_factor=1.0, high_freq_factor=4.0
    )
    np.testing.assert_allclose(F.llama3_frequencies(R, theta, 8.0, 512), theirs, rtol=1e-6)


@given(st.integers(2, 32), st.sampled_from([10.0, 10000.0, 1e6]), st.sampled_from([1.0, 2.0, 16.0]))
def test_scaled_frequencies(pairs, theta, factor):
    rotary_dim = 2 * pairs
    plain = F.rotary_frequencies(rotary_dim, theta)
    assert plain[0] == 1.0
    assert (np.diff(plain) < 0).all()
    ntk = F.ntk_aware_frequencies(rotary_dim, theta, factor)
    assert ntk[0] == 1.0
    np.testing.assert_allclose(ntk[-1], plain[-1] / factor)
    llama3 = F.llama3_frequencies(rotary_dim, theta, factor, 4096)
    for scaled in (F.yarn_frequencies(rotary_dim, theta, factor, 4096), llama3):
        assert ((plain / factor * (1 - 1e-12) <= scaled) & (scaled <= plain * (1 + 1e-12))).all()
        assert scaled[0] == 1.0  # hundreds of rotations
        if factor == 1.0:
            np.testing.assert_allclose(scaled, plain)
    few_rotations = 4096 * plain / (2 * np.pi) < 1
    np.testing.assert_allclose(llama3[few_rotations], plain[few_rotations] / factor)


def test_dtype():
    x = np.ones((3, 4), np.float32)
    y, cache = F.rotary_forward(x, np.arange(3), F.rotary_frequencies(4), amplitude=np.float64(1.1))
    assert y.dtype == np.float32
    assert F.rotary_backward(y, cache).dtype == np.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.rotary(np.ones((3, 4)), np.arange(3), np.ones(3)), r"2 F ≤ D"),
        (lambda: F.rotary(np.ones((3, 4)), np.arange(3), np.ones(2), "thirds"), "layout is 'thirds'"),
        (lambda: F.rotary(np.ones((3, 4)), np.arange(2), np.ones(2)), "positions has shape"),
        (lambda: F.rotary_frequencies(3), "rotary_dim is 3; it must be even"),
        (lambda: F.rotary_frequencies(0), "rotary_dim is 0"),
        (lambda: F.rotary_frequencies(4, -1.0), "theta is -1.0; it must be greater than 1"),
        (
            lambda: F.llama3_frequencies(4, 10.0, 2.0, 9, 4.0, 4.0),
            "high_freq_factor is 4.0; it must be greater than low_freq_factor",
        ),
        (lambda: F.interpolated_frequencies(4, 10.0, 0.5), "factor is 0.5; it must be at least 1"),
        (lambda: F.yarn_frequencies(4, 10.0, 2.0, 0), "original_length is 0"),
        (lambda: RoPE(theta=1.0), "theta is 1.0; it must be greater than 1"),
        (lambda: RoPE(theta=math.inf), "theta is inf"),
        (lambda: LinearScaling(math.nan), "factor is nan; it must be at least 1"),
        (lambda: RoPE(partial_rotary_factor=0.0), "partial_rotary_factor is 0.0"),
        (lambda: RoPE(layout="quarters"), 'layout is \'quarters\'; it must be "halves" or "pairs"'),
        (lambda: LinearScaling(0.5), "factor is 0.5; it must be at least 1"),
        (lambda: NTKScaling(0.5), "factor is 0.5"),
        (lambda: YaRNScaling(2.0, 0), "original_length is 0"),
        (lambda: Llama3Scaling(2.0, 8, 4.0, 4.0), "high_freq_factor is 4.0"),
        (lambda: DynamicNTKScaling(0.5, 8), "factor is 0.5"),
        (lambda: DynamicNTKScaling(2.0, 0), "original_length is 0"),
        (lambda: YaRNScaling(2.0, 8, attention_factor=0.0), "attention_factor is 0.0; it must be greater than 0"),
        (lambda: YaRNScaling(2.0, 8, beta_fast=math.nan), "beta_fast is nan"),
        (lambda: LongRoPEScaling((1.0,), (0.0,), 8), "long_factor is 0.0"),
        (lambda: LongRoPEScaling((1.0,), (1.0,), 1, 2.0), "original_length is 1; it must be at least 2"),
        (
            lambda: RoPE(scaling=LongRoPEScaling((1.0,), (1.0,), 8)).frequencies(4),
            "short_factor has 1 numbers; it must",
        ),
    ],
)
def test_invalid_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("scaling", "kind", "options"),
    [
        (LinearScaling(4.0), "linear", {"factor": 4.0}),
        (YaRNScaling(8.0, 512), "yarn", {"factor": 8.0, "original_max_position_embeddings": 512}),
        (YaRNScaling(8.0, 512, 20.0, 2.0), "yarn", {"factor": 8.0, "original_max_position_embeddings": 512,
                                                      "beta_fast": 20.0, "beta_slow": 2.0}),
        (Llama3Scaling(8.0, 512), "llama3", {"factor": 8.0, "original_max_position_embeddings": 512,
                                             "low_freq_factor": 1.0, "high_freq_factor": 4.0}),
        (YaRNScaling(8.0, 512, truncate=False), "yarn", {"factor": 8.0, "original_max_position_embeddings": 512,
                                                         "truncate": False}),
        (YaRNScaling(8.0, 512, mscale=0.9, mscale_all_dim=0.4), "yarn", {
            "factor": 8.0, "original_max_position_embeddings": 512, "mscale": 0.9, "mscale_all_dim": 0.4}),
        (YaRNScaling(8.0, 512, attention_factor=1.5), "yarn", {
            "factor": 8.0, "original_max_position_embeddings": 512, "attention_factor": 1.5}),
        (LongRoPEScaling(SHORT, LONG, 512, 4.0), "longrope", {
            "factor": 4.0, "original_max_position_embeddings": 512, "short_factor": SHORT, "long_factor": LONG}),
        (LongRoPEScaling(SHORT, LONG, 512, 4.0, 1.3), "longrope", {
            "factor": 4.0, "original_max_position_embeddings": 512, "short_factor": SHORT, "long_factor": LONG,
            "attention_factor": 1.3}),
    ],
)  # fmt: skip
def test_scalings_and_the_references_equal_those_of_transformers(scaling, kind, options):
    rope = RoPE(scaling=scaling)
    theirs, amplitude = transformers_frequencies(kind, **options)
    np.testing.assert_allclose(rope.frequencies(32), theirs, rtol=1e-6)
    assert rope.amplitude == pytest.approx(amplitude)
    np.testing.assert_allclose(reference.rotary_frequencies(32, 10000.0, scaling), theirs, rtol=1e-6)
    assert reference.rotary_amplitude(scaling) == pytest.approx(amplitude)


@given(st.integers(1, 32), st.sampled_from([10.0, 10000.0, 1e6]), st.sampled_from([1.0, 2.0, 16.0]))
def test_frequencies_equal_those_of_the_reference(pairs, theta, factor):
    numbers = tuple(1.0 + 0.5 * i for i in range(pairs))
    scalings = [
        None, LinearScaling(factor), NTKScaling(factor), YaRNScaling(factor, 64), YaRNScaling(factor, 3),
        YaRNScaling(factor, 64, 2.0, 8.0, truncate=False), Llama3Scaling(factor, 64), DynamicNTKScaling(factor, 64),
        LongRoPEScaling(numbers, numbers[::-1], 64, factor),
    ]  # fmt: skip
    for scaling in scalings:
        rope = RoPE(theta=theta, scaling=scaling)
        for length in (0, 64, 65, 200):
            expected = reference.rotary_frequencies(2 * pairs, theta, scaling, length)
            np.testing.assert_allclose(rope.frequencies(2 * pairs, length), expected, rtol=1e-12)
        assert rope.amplitude == pytest.approx(reference.rotary_amplitude(scaling))


@pytest.mark.parametrize("scaling", [DynamicNTKScaling(2.0, 8), LongRoPEScaling((1.0, 1.5), (2.0, 4.0), 8)])
def test_frequencies_that_depend_on_the_length(scaling):
    """Up to the length of training they are constant; then dynamic NTK's decrease, and LongRoPE has other ones."""
    short, longer, longest = (RoPE(scaling=scaling).frequencies(4, length) for length in (8, 9, 16))
    np.testing.assert_array_equal(RoPE(scaling=scaling).frequencies(4), short)
    assert longer[-1] < short[-1]
    assert (longest[-1] < longer[-1]) == isinstance(scaling, DynamicNTKScaling)
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 1, 9, 4))
    for length, frequencies in ((8, short), (9, longer)):
        rotated, _, _ = rope_forward(q[:, :length], k[:, :length], np.arange(length), RoPE(scaling=scaling))
        amplitude = RoPE(scaling=scaling).amplitude
        np.testing.assert_array_equal(
            rotated, F.rotary(q[:, :length], np.arange(length), frequencies, amplitude=amplitude)
        )

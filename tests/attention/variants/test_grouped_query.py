"""Grouped-query attention with its options: equivalence, the properties of each option, and processing in chunks."""

import dataclasses
import inspect
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention import (
    GQA,
    ALiBi,
    BlockSparseMask,
    CausalSelfAttention,
    GroupedQueryAttention,
    KVCache,
    LinearScaling,
    Llama3Scaling,
    NTKScaling,
    QKNorm,
    RoPE,
    SlidingWindow,
    SlidingWindowKVCache,
    StridedMask,
    T5Bias,
    YaRNScaling,
)
from npllm.core.config import from_dict, to_dict
from tests.attention import properties
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, seeds, sizes

pytestmark = pytest.mark.covers("GroupedQueryAttention")
NAME, CONTEXT = "GroupedQueryAttention", 9
LAYOUT = np.tril(np.ones((5, 5), bool))
LAYOUT[3, 1] = LAYOUT[4, 0] = False

SCALINGS = [
    None,
    LinearScaling(2.0),
    NTKScaling(4.0),
    YaRNScaling(4.0, original_length=64),
    Llama3Scaling(8.0, original_length=64),
]
OPTIONS = {  # constructor argument: values to draw from
    "qk_norm": st.builds(QKNorm, st.just(1e-5), st.sampled_from(["head", "projection"]), st.booleans()),
    "rope": st.builds(
        RoPE,
        theta=st.sampled_from([10.0, 10000.0]),
        partial_rotary_factor=st.sampled_from([0.5, 1.0]),
        layout=st.sampled_from(["halves", "pairs"]),
        scaling=st.sampled_from(SCALINGS),
    ),
    "o_bias": st.just(True),
    "scale": st.sampled_from([0.3, 2.0]),
    "softcap": st.sampled_from([0.7, 50.0]),
    "relative_bias": st.sampled_from([ALiBi(), T5Bias(num_buckets=6, max_distance=7)]),
    "window": st.builds(SlidingWindow, st.integers(1, 4), num_sink_tokens=st.integers(0, 2)),
    "sparsity": st.one_of(st.builds(StridedMask, st.integers(1, 4)), st.just(BlockSparseMask(2, LAYOUT.tolist()))),
    "output_gate": st.just(True),
}
EACH = [  # every option, and every class of it
    {"qk_norm": QKNorm()},
    {"qk_norm": QKNorm(over="projection", unit_offset=True)},
    {"rope": RoPE(theta=100.0)},
    {"o_bias": True},
    {"scale": 0.8},
    {"softcap": 1.5},
    {"relative_bias": ALiBi()},
    {"relative_bias": T5Bias(num_buckets=6, max_distance=4)},
    {"window": SlidingWindow(2, num_sink_tokens=1)},
    {"sparsity": StridedMask(2)},
    {"sparsity": BlockSparseMask(2, LAYOUT.tolist())},
    {"output_gate": True},
]


def test_every_option_is_tested():
    options = {field.name for field in dataclasses.fields(GQA)} - {"num_heads", "num_kv_heads", "head_dim", "qkv_bias"}
    assert OPTIONS.keys() == options
    assert {name for option in EACH for name in option} == options


@st.composite
def configs(draw, options=None):
    """Constructor arguments: grouped heads, any head_dim, and a few options."""
    num_kv_heads = draw(st.integers(1, 2))
    num_heads = num_kv_heads * draw(st.integers(1, 3))
    names = draw(st.lists(st.sampled_from(list(OPTIONS)), max_size=4, unique=True)) if options is None else options
    return {
        "d_model": num_heads * draw(st.integers(1, 2)),
        "context_length": CONTEXT,
        "dropout": 0.2,
        "num_heads": num_heads,
        "num_kv_heads": num_kv_heads,
        "head_dim": draw(st.sampled_from([4, 8])),
        "qkv_bias": draw(st.booleans()),
        **{name: draw(OPTIONS[name]) for name in names},
    }


def build(config, seed=0, **changes):
    """A float64 layer."""
    return implementation(NAME)(**config | changes, rng=np.random.default_rng(seed), dtype="float64")


PLAIN = {"d_model": 6, "context_length": CONTEXT, "dropout": 0.0, "num_heads": 4, "num_kv_heads": 2, "head_dim": 4}


@given(st.data(), dtypes, leading, sizes, st.booleans())
def test_equals_pytorch(data, dtype, batch, T, dropout):
    config = data.draw(configs())
    x = data.draw(arrays((*batch, T, config["d_model"]), dtype))
    check_layer(NAME, config, x, dtype=dtype, dropout=dropout, loosen=4.0)


@pytest.mark.parametrize("option", OPTIONS)
@given(st.data(), dtypes, sizes)
def test_equals_pytorch_with_each_option(option, data, dtype, T):
    config = data.draw(configs([option]))
    x = data.draw(arrays((2, T, config["d_model"]), dtype))
    check_layer(NAME, config, x, dtype=dtype, loosen=4.0)


@given(st.data(), dtypes, sizes)
def test_equals_pytorch_on_packed_documents(data, dtype, T):
    config = data.draw(configs())
    x = data.draw(arrays((2, T, config["d_model"]), dtype))
    document_ids = np.sort(np.random.default_rng(data.draw(seeds)).integers(0, 3, (2, T)), axis=-1)
    check_layer(NAME, config, x, dtype=dtype, document_ids=document_ids, loosen=4.0)


@pytest.mark.parametrize("options", [{}, *EACH], ids=str)
def test_finite_differences(options):
    rng = np.random.default_rng(1)
    properties.check_finite_differences(build(PLAIN, dropout=0.2, **options), rng.standard_normal((2, 6, 6)), rng)


def test_defaults_equal_those_of_the_configuration_and_of_the_reference():
    for option in EACH:
        check_layer(NAME, {"d_model": 8, "context_length": 7, "dropout": 0.0, "num_heads": 2} | option,
                    np.random.default_rng(0).standard_normal((2, 7, 8)), dtype="float64")  # fmt: skip
    arguments = inspect.signature(GroupedQueryAttention).parameters
    for field in dataclasses.fields(GQA):
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        assert arguments[field.name].default == default, field.name


def test_the_configuration_builds_the_layer():
    config = GQA(num_heads=4, num_kv_heads=2, rope=RoPE(theta=100.0), qk_norm=QKNorm(), window=SlidingWindow(3))
    layer = config.build(16, 9, rng=np.random.default_rng(0), dtype="float64")
    same = build({"d_model": 16, "context_length": 9, "dropout": 0.0, **vars(config)})
    x = np.random.default_rng(1).standard_normal((2, 7, 16))
    np.testing.assert_array_equal(layer(x), same(x))
    assert from_dict(json.loads(json.dumps(to_dict(config))), GQA) == config


@given(st.data(), sizes)
def test_with_as_many_kv_heads_as_heads_it_is_multi_head_attention(data, T):
    C = 6
    one = CausalSelfAttention(C, 7, 0.0, 3, qkv_bias=True, rng=np.random.default_rng(0), dtype="float64")
    one.c_proj.bias.data[...] = 0
    other = build({"d_model": C, "context_length": 7, "dropout": 0.0, "num_heads": 3, "qkv_bias": True})
    state, names = one.state_dict(), ("q_proj", "k_proj", "v_proj")
    weights, biases = np.split(state["c_attn.weight"], 3), np.split(state["c_attn.bias"], 3)
    other.load_state_dict(
        {f"{name}.weight": weight for name, weight in zip(names, weights)}
        | {f"{name}.bias": bias for name, bias in zip(names, biases)}
        | {"o_proj.weight": state["c_proj.weight"]}
    )
    x = data.draw(arrays((2, T, C), np.dtype(np.float64)))
    np.testing.assert_allclose(other(x), one(x), rtol=1e-10, atol=1e-12)


def test_grouped_heads_are_repeated_not_tiled():
    grouped = build(PLAIN)
    full = build(PLAIN, num_kv_heads=4)
    state = grouped.state_dict()
    for name in ("k_proj.weight", "v_proj.weight"):
        heads = state[name].reshape(2, 4, 6)
        state[name] = heads.repeat(2, axis=0).reshape(16, 6)
    full.load_state_dict(state)
    x = np.random.default_rng(0).standard_normal((2, 5, 6))
    np.testing.assert_allclose(grouped(x), full(x), rtol=1e-12)


def same_as_plain(x, **options):
    """Whether a layer with these options has the values of one without."""
    plain, other = build(PLAIN), build(PLAIN, **options)
    own = {name: array for name, array in other.state_dict().items() if name not in plain.state_dict()}
    other.load_state_dict(plain.state_dict() | own)
    return np.allclose(other(x), plain(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "is_plain"),
    [
        ({"window": SlidingWindow(7)}, True),
        ({"window": SlidingWindow(6)}, False),
        ({"window": SlidingWindow(6, num_sink_tokens=1)}, True),
        ({"relative_bias": ALiBi(slopes=(0.0,) * 4)}, True),
        ({"relative_bias": ALiBi()}, False),
        ({"softcap": 1e7}, True),
        ({"softcap": 0.1}, False),
        ({"sparsity": StridedMask(7)}, True),
        ({"sparsity": StridedMask(1)}, True),
        ({"sparsity": StridedMask(3)}, False),
        ({"sparsity": BlockSparseMask(2, np.tril(np.ones((5, 5))))}, True),
        ({"sparsity": BlockSparseMask(2, np.eye(5))}, False),
        ({"rope": RoPE()}, False),
        ({"qk_norm": QKNorm()}, False),
        ({"output_gate": True}, False),
    ],
    ids=str,
)
def test_options_without_effect_are_plain_attention_and_others_are_not(options, is_plain):
    assert same_as_plain(np.random.default_rng(0).standard_normal((2, 7, 6)), **options) == is_plain


@given(st.data(), st.integers(2, 7), seeds)
def test_a_later_token_changes_nothing_before_it(data, T, seed):
    config = data.draw(configs())
    layer, rng = build(config), np.random.default_rng(seed)
    x = rng.standard_normal((2, T, config["d_model"]))
    j = data.draw(st.integers(0, T - 1))
    changed = x.copy()
    changed[:, j] += 5 * rng.standard_normal(config["d_model"])
    before, after = layer(x), layer(changed)
    np.testing.assert_array_equal(after[:, :j], before[:, :j])
    assert (after[:, j] != before[:, j]).any()


@given(st.data(), st.integers(1, 9), seeds, dtypes)
def test_chunks_equal_the_whole_sequence(data, T, seed, dtype):
    config = data.draw(configs())
    layer = GroupedQueryAttention(**config, rng=np.random.default_rng(seed), dtype=dtype)
    x = np.random.default_rng(seed).standard_normal((2, T, config["d_model"])).astype(dtype)
    properties.check_chunks(layer, x, np.random.default_rng(seed))


@given(st.data(), seeds)
def test_left_padding_changes_nothing(data, seed):
    config = data.draw(configs())
    rng = np.random.default_rng(seed)
    properties.check_padding(build(config), rng.standard_normal((3, 6, config["d_model"])), rng)


@given(st.data(), seeds)
def test_packed_equals_separate(data, seed):
    config, rng = data.draw(configs()), np.random.default_rng(seed)
    x = rng.standard_normal((2, 7, config["d_model"]))
    properties.check_packed(build(config, seed), x, properties.documents_of(rng, 2, 7), rng)


def test_the_cache_of_a_window_keeps_the_window():
    layer = build(PLAIN, window=SlidingWindow(3, num_sink_tokens=1), context_length=200)
    kv_cache, full = layer.new_kv_cache(), build(PLAIN, context_length=200).new_kv_cache()
    assert isinstance(kv_cache, SlidingWindowKVCache)
    assert isinstance(full, KVCache)
    x = np.random.default_rng(0).standard_normal((1, 100, 6))
    for t in range(100):
        layer(x[:, t : t + 1], kv_cache=kv_cache)
    build(PLAIN, context_length=200)(x, kv_cache=full)
    numbers = 2 * 2 * 4 * 8  # keys and values, kv heads, head_dim, bytes
    assert kv_cache.nbytes <= (3 + 1) * numbers
    assert full.nbytes == 100 * numbers


@pytest.mark.parametrize("window", [None, 3])
def test_equals_the_operator_of_pytorch(window):
    layer = build(PLAIN, window=None if window is None else SlidingWindow(window))
    x = np.random.default_rng(0).standard_normal((2, 7, 6))
    weight = {name: torch.tensor(array) for name, array in layer.state_dict().items()}
    heads = {"q": 4, "k": 2, "v": 2}
    q, k, v = (
        (torch.tensor(x) @ weight[f"{p}_proj.weight"].T).unflatten(-1, (n, 4)).transpose(1, 2) for p, n in heads.items()
    )
    t = torch.arange(7)
    distance = t[:, None] - t
    mask = (distance >= 0) & (distance < (window or 99))
    context = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    expected = context.transpose(1, 2).flatten(-2) @ weight["o_proj.weight"].T
    np.testing.assert_allclose(layer(x), expected, rtol=1e-10, atol=1e-12)


def test_equals_flex_attention():
    """PyTorch's flex_attention, eager: soft cap, ALiBi and a window with a sink as functions of score and positions."""
    from torch.nn.attention.flex_attention import flex_attention

    layer = build(PLAIN, softcap=0.5, relative_bias=ALiBi(), window=SlidingWindow(3, num_sink_tokens=1))
    x = np.random.default_rng(0).standard_normal((2, 7, 6))
    slopes = torch.tensor(F.alibi_slopes(4))
    _, cache = layer.forward(x)
    q, k, v = (torch.tensor(a) for a in (cache.attention.q, cache.attention.k, cache.attention.v))

    def rule(score, b, h, t, s):
        score = 0.5 * torch.tanh(score / 0.5) - slopes[h] * (t - s)
        return torch.where((s <= t) & ((t - s < 3) | (s < 1)), score, -torch.inf)

    with np.errstate(all="ignore"), pytest.warns(UserWarning, match="flex_attention called without torch.compile"):
        context = flex_attention(q, k, v, score_mod=rule, enable_gqa=True)
    np.testing.assert_allclose(cache.o_proj.x, context.transpose(1, 2).flatten(-2), rtol=1e-10, atol=1e-12)


def test_rope_and_qk_norm_equal_those_of_qwen3():
    """transformers' Qwen3 attention: grouped heads, query/key norm, then rotary by halves."""
    from transformers.models.qwen3 import modeling_qwen3 as theirs

    config = theirs.Qwen3Config(
        hidden_size=6, num_attention_heads=4, num_key_value_heads=2, head_dim=4, num_hidden_layers=1,
        attn_implementation="eager", rope_theta=100.0, rms_norm_eps=1e-5,
    )  # fmt: skip
    reference = theirs.Qwen3Attention(config, 0).double().eval()
    layer = build(PLAIN, qk_norm=QKNorm(eps=1e-5), rope=RoPE(theta=100.0))
    for norm in (layer.q_norm, layer.k_norm):
        norm.weight.data *= 1.5
    reference.load_state_dict({name: torch.tensor(array) for name, array in layer.state_dict().items()})
    x = torch.tensor(np.random.default_rng(0).standard_normal((2, 7, 6)))
    positions = torch.arange(7)[None]
    rotations = theirs.Qwen3RotaryEmbedding(config)(x, positions)
    future = torch.full((7, 7), -torch.inf, dtype=torch.float64).triu(1)
    expected, _ = reference(x, rotations, future)
    np.testing.assert_allclose(layer(x.numpy()), expected.detach(), rtol=1e-6, atol=1e-7)  # their angles are float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_kv_heads": 3}, "num_heads is 4 and num_kv_heads 3; num_kv_heads must divide it"),
        ({"head_dim": None}, "d_model is 6 and num_heads 4; num_heads must divide d_model"),
        ({"num_heads": 0}, "num_heads is 0"),
        ({"num_kv_heads": 0}, "num_kv_heads is 0"),
        ({"softcap": 0.0}, "softcap is 0.0; it must be greater than 0 and finite"),
        ({"softcap": np.inf}, "softcap is inf"),
        ({"softcap": np.nan}, "softcap is nan"),
        ({"rope": RoPE(partial_rotary_factor=0.25)}, "rotary_dim is 1; it must be even"),
        ({"relative_bias": ALiBi(slopes=(1.0,))}, "slopes has 1 numbers; it must have 4, one for each head"),
        (
            {"sparsity": BlockSparseMask(2, np.eye(4))},
            "layout has 4 rows; for a context_length of 9 in blocks of 2 it must have at least 5",
        ),
    ],
)
def test_invalid_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        build(PLAIN | changes)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (lambda: QKNorm(-1.0), "eps is -1.0; it must be at least 0"),
        (lambda: SlidingWindow(0), "size is 0; it must be at least 1"),
        (lambda: SlidingWindow(2, -1), "num_sink_tokens is -1"),
        (lambda: StridedMask(0), "stride is 0"),
        (lambda: BlockSparseMask(0, [[1]]), "block_size is 0"),
        (lambda: BlockSparseMask(2, [[1, 1], [1, 0]]), "a square with a true diagonal"),
        (lambda: BlockSparseMask(2, [[1, 1], [1]]), "layout has rows of 2, 1 entries"),
    ],
)
def test_invalid_options(option, message):
    with pytest.raises(ValueError, match=message):
        option()


def test_invalid_input():
    layer = build(PLAIN)
    with pytest.raises(ValueError, match="the sequence has 10 positions; it must have at most 9"):
        layer(np.zeros((10, 6)))
    with pytest.raises(ValueError, match="document_ids and kv_cache are both set"):
        layer(np.zeros((2, 6)), kv_cache=layer.new_kv_cache(), document_ids=np.zeros(2, int))
    with pytest.raises(ValueError, match="the kv_cache has batch_size 1 but the input has shape"):
        layer(np.zeros((3, 2, 6)), kv_cache=layer.new_kv_cache())

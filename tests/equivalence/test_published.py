"""`npllm verify --model`: the rows for models that are equal, and for one that is not."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.equivalence import published
from tests.equivalence.published import Row, rows
from tests.weights.gguf_files import random_model, write_model


def save(architecture, folder, **changes):
    """A random model of transformers with a tokenizer of single bytes."""
    random_model(architecture, vocab_size=300, max_position_embeddings=64, **changes).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: number for number, symbol in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen3moe", "gemma3", "phi3"])
def test_every_step_of_an_equal_model_is_within_tolerance(tmp_path, architecture):
    save(architecture, tmp_path)
    found = list(rows(tmp_path))
    assert [row.name for row in found if not row.ok] == []
    names = [row.name for row in found]
    assert names[0] == "embedding" and names[1] == "after layer 1"
    assert names[-5:] == ["logits", "loss", "greedy text", "gradients", "ids of the tokenizer"]
    assert all(row.relative < 2e-5 for row in found if row.name != "gradients")
    assert "The capital of France is" in found[-3].detail and "ids of the tokenizer: " in found[-1].detail


def test_a_gguf_file_without_a_tokenizer_is_compared_on_random_ids(tmp_path):
    path = tmp_path / "model.gguf"
    write_model(path, "llama", random_model("llama"))
    found = list(rows(path))
    assert [row.name for row in found if not row.ok] == ["ids of the tokenizer"]
    assert "model.gguf" in found[-1].detail and "tokenizer.ggml" in found[-1].detail


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        ("model.layers.1.mlp.down_proj.weight", ["after the last norm", "logits", "loss", "gradients"]),
        ("model.layers.0.self_attn.o_proj.weight", ["after layer 1", "after the last norm", "logits", "loss"]),
    ],
)
def test_the_first_step_that_differs_is_the_layer_with_the_fault(tmp_path, monkeypatch, weight, expected):
    save("llama", tmp_path)
    original = published.open_reference

    def with_a_fault(path):
        model = original(path)
        with torch.no_grad():
            model.get_parameter(weight)[:] *= 1.01
        return model

    monkeypatch.setattr(published, "open_reference", with_a_fault)
    different = [row.name for row in rows(tmp_path) if not row.ok]
    assert different[: len(expected)] == expected


def test_a_gradient_that_differs_is_named(tmp_path, monkeypatch):
    save("llama", tmp_path)
    original = published._gradients
    monkeypatch.setattr(
        published, "_gradients", lambda reference: original(reference) | {"norm.weight": np.ones(32, np.float32)}
    )
    different = [row for row in rows(tmp_path) if not row.ok]
    assert [row.name for row in different] == ["gradients"] and different[0].detail.endswith(": norm.weight")


def test_a_model_that_transformers_does_not_have_is_a_sentence(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "npllm_decoder"}')
    with pytest.raises(ValueError, match="transformers cannot open .*npllm_decoder"):
        list(rows(tmp_path))


def test_a_row_is_ok_within_tolerance_only():
    assert Row("x", 1.0, 10.0, 0.1).ok and not Row("x", 1.01, 10.0, 0.1).ok
    assert Row("x", 0.0, 0.0, 0.0).ok and not Row("x", 1.0, 0.0, 0.5).ok
    assert not Row("x", float("nan"), 1.0, 1.0).ok and not Row("x", float("inf"), 1.0, 1.0).ok

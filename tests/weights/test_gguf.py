"""GGUF files: what transformers computes from the same file, or from the model that was written into it."""

import gguf
import numpy as np
import pytest
import torch
import transformers

from npllm.generation import complete
from npllm.models import GPT, Decoder, from_pretrained
from npllm.weights.gguf import read_config, read_tensors
from tests.packages import package
from tests.weights.gguf_files import CHANGES, SHAPE, random_model, write_model

IDS = np.random.default_rng(0).integers(0, 40, (2, 13))
# transformers 5.24 reads these architectures itself; the others are compared with the model that was written
OPENED_BY_TRANSFORMERS = ("llama", "qwen2", "qwen3", "phi3", "gemma2", "gemma3", "gpt2")


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
    loss, cache = model.loss_forward(ids[:, :-1], ids[:, 1:])
    model.loss_backward(1.0, cache)
    assert_equal_gradients(reference, model, tolerance)
    greedy = reference.generate(torch.tensor(ids[:1, :4]), max_new_tokens=9, do_sample=False, eos_token_id=None)
    assert complete(model, ids[0, :4], 9, temperature=0.0) == greedy[0, 4:].tolist()


def assert_equal_gradients(reference, model, tolerance):
    """The gradient of every parameter by transformers' name, from what save_pretrained would write."""
    expected = {name.removeprefix("transformer.").removeprefix("model."): p.grad for name, p in reference.named_parameters()}
    for name, parameter in model.named_parameters():
        gradient = expected[name].numpy()
        gradient = gradient.T if gradient.shape != parameter.shape or ".c_" in name and gradient.ndim == 2 else gradient
        atol = 1e-5 * tolerance * max(1e-3, np.abs(gradient).max())
        np.testing.assert_allclose(parameter.grad, gradient, rtol=1e-4, atol=atol, err_msg=name)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gpt2"])
def test_equals_transformers_on_the_same_file(tmp_path, architecture):
    path = tmp_path / "model.gguf"
    written = random_model(architecture)
    write_model(path, architecture, written)
    model = from_pretrained(path)
    assert isinstance(model, GPT if architecture == "gpt2" else Decoder)
    assert_equal_to(opened_by_transformers(path), model)
    np.testing.assert_allclose(model(IDS), written(torch.tensor(IDS)).logits.detach(), rtol=1e-4, atol=1e-5)

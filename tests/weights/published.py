"""Folders as transformers publishes them, with tiny random weights, and npllm's numbers held against transformers'."""

import json
import tempfile
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import transformers

from npllm import functional as F
from npllm.models.presets import from_pretrained

BASE = {
    "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
}  # fmt: skip
LLAMA = BASE | {"model_type": "llama"}
GPT2 = {"model_type": "gpt2", "vocab_size": 61, "n_positions": 32, "n_embd": 32, "n_layer": 3, "n_head": 4}
IDS = np.random.default_rng(0).integers(0, 61, (2, 20))


def random_model(config: dict, seed: int = 0) -> transformers.PreTrainedModel:
    """The model that transformers makes of this config.json, with random weights. Raises what transformers raises."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        loaded = transformers.AutoConfig.from_pretrained(folder)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(loaded, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
            else:
                parameter.copy_(torch.randn_like(parameter) * 0.3 + (1.0 if "bias" not in name else 0.0))
    return model.eval()


def write_folder(
    folder: Path, config: dict, dtype: torch.dtype = torch.float32, shard_size: str = "50GB", seed: int = 0
) -> Path:
    """A folder with exactly this config.json, and weights that fit it."""
    random_model(config, seed).to(dtype).save_pretrained(folder, max_shard_size=shard_size)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def rewrite_tensors(folder: Path, change) -> Path:
    """The folder, with its tensors changed by `change(tensors)`."""
    tensors = change(safetensors.torch.load_file(folder / "model.safetensors"))
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def rewrite_config(folder: Path, **changes) -> Path:
    """The folder, with fields of its config.json changed."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def open_reference(folder: Path) -> transformers.PreTrainedModel:
    """The folder's model in transformers, in float32, with the plain implementation of attention."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def compare(folder: Path, ids: np.ndarray = IDS, max_new_tokens: int = 0, tolerance: float = 1e-4) -> None:
    """Hold logits, loss, every gradient and greedy text of npllm against those of transformers."""
    reference, model = open_reference(folder), from_pretrained(folder)
    out = reference(torch.tensor(ids), labels=torch.tensor(ids))
    expected = out.logits.detach().numpy()
    scale = max(1.0, float(np.abs(expected).max()))
    logits, cache = model.forward(ids)
    np.testing.assert_allclose(logits, expected, rtol=tolerance, atol=tolerance * scale)
    loss, cross_entropy = F.cross_entropy_forward(logits[:, :-1], ids[:, 1:])
    assert abs(float(loss) - out.loss.item()) < 1e-4 * max(1.0, out.loss.item())
    out.loss.backward()
    dlogits = np.zeros_like(logits)
    dlogits[:, :-1] = F.cross_entropy_backward(1.0, cross_entropy)
    model.backward(dlogits, cache)
    _compare_gradients(model, reference, tolerance)
    if max_new_tokens:
        prompt = torch.tensor(ids[:1, :5])
        written = reference.generate(
            prompt, max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        assert greedy(model, ids[0, :5].tolist(), max_new_tokens) == written[0, 5:].tolist()


def greedy(model, prompt: list[int], max_new_tokens: int) -> list[int]:
    """The tokens of greatest probability, one after another."""
    from npllm.generation import complete

    return complete(model, prompt, max_new_tokens, temperature=0)


def _compare_gradients(model, reference, tolerance: float) -> None:
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    is_gpt2 = reference.config.model_type == "gpt2"
    checked = 0
    for name, parameter in reference.named_parameters():
        name = name.removeprefix("model.").removeprefix("transformer.")
        gradient = parameter.grad
        if name.endswith("mlp.experts.gate_up_proj"):  # all experts in one tensor, gate before up
            _compare_experts(found, name.removesuffix("gate_up_proj"), ("gate_proj", "up_proj"), gradient, tolerance)
            continue
        if name.endswith("mlp.experts.down_proj"):
            _compare_experts(found, name.removesuffix("down_proj"), ("down_proj",), gradient, tolerance)
            continue
        if is_gpt2 and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            gradient = gradient.T
        _assert_close(found[name], gradient, name, tolerance)
        checked += 1
    assert checked >= 8


def _compare_experts(found: dict, prefix: str, names: tuple[str, ...], gradient: torch.Tensor, tolerance) -> None:
    for index, expert in enumerate(gradient):
        for name, part in zip(names, expert.chunk(len(names))):
            key = f"{prefix}{index}.{name}.weight"
            ours = np.zeros(part.shape, np.float32) if found[key] is None else found[key]
            _assert_close(ours, part, key, tolerance)


def _assert_close(ours: np.ndarray, theirs: torch.Tensor, name: str, tolerance: float) -> None:
    theirs = theirs.numpy()
    scale = max(1.0, float(np.abs(theirs).max()))
    np.testing.assert_allclose(ours, theirs, rtol=10 * tolerance, atol=tolerance * scale, err_msg=name)

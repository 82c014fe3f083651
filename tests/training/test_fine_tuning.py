"""Fine-tuning a published model: the steps of transformers with torch.optim.AdamW."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from npllm.batching import WindowDataset
from npllm.models import Decoder, from_pretrained
from npllm.training import Trainer, TrainingConfig

SIZES = {
    "vocab_size": 29, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3,
}  # fmt: skip
NUM_STEPS = 6
IDS = np.random.default_rng(0).integers(0, 29, 120)


def trainer_of(model):
    config = TrainingConfig(
        num_steps=NUM_STEPS,
        batch_size=3,
        grad_accum_steps=2,
        learning_rate=3e-3,
        min_learning_rate=3e-4,
        warmup_steps=2,
    )
    return Trainer(model, WindowDataset(IDS, 8, 1), None, config)


def train_with_transformers(folder, dtype):
    """The losses, and the model after as many steps with the same hyperparameters, schedule and batches."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).train()
    trainer = trainer_of(from_pretrained(folder))  # for its batches and its schedule
    c = trainer.config
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": c.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer, losses = torch.optim.AdamW(groups, betas=c.betas), []
    for step in range(NUM_STEPS):
        inputs, targets = (torch.tensor(array) for array in next(trainer.batches))
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs).logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), c.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = c.learning_rate_at(step)
        optimizer.step()
        losses.append(loss.item())
    return losses, model


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", [(LlamaConfig, LlamaForCausalLM), (Qwen2Config, Qwen2ForCausalLM)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 2e-4)])
def test_steps_equal_transformers_and_torch(tmp_path, family, tied, dtype, tolerance):
    """transformers computes RoPE and the variance of RMS norm in float32 for a model in float64, too.

    Adam enlarges rounding errors: it divides by √v, so a gradient near 0 may move its weight either way.
    """
    config_class, model_class = family
    torch.manual_seed(1)
    model_class(config_class(**SIZES, tie_word_embeddings=tied)).save_pretrained(tmp_path)
    expected, theirs = train_with_transformers(tmp_path, getattr(torch, dtype))
    model, losses = from_pretrained(tmp_path, dtype), []
    assert isinstance(model, Decoder)
    trainer_of(model).run([lambda _, metrics: losses.append(metrics.loss)])
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    assert abs(losses[-1] - losses[0]) > 0.01
    model.save_pretrained(tmp_path / "ours")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=getattr(torch, dtype))
    for (name, one), (_, other) in zip(saved.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance, msg=lambda m, name=name: f"{name}: {m}")

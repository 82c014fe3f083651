import numpy as np
import pytest

from npllm.models import GPT, Decoder, DecoderConfig, GPTConfig, language_model
from npllm.models.decoder_config import MoE

DECODER = {"vocab_size": 31, "context_length": 8, "d_model": 16, "num_layers": 2}
CONFIGS = {
    "GPT": GPTConfig(31, 8, 16, 2, 2),
    "untied GPT": GPTConfig(31, 8, 16, 2, 2, tied=False),
    "Decoder": DecoderConfig(**DECODER, logits_scaling=3.0, logits_softcap=2.0),
    "mixture of experts": DecoderConfig(**DECODER, feed_forward=MoE(num_experts=4)),
}


def build(config):
    """A model in float64, and a batch with ignored targets."""
    rng = np.random.default_rng(0)
    model = (GPT if isinstance(config, GPTConfig) else Decoder)(config, rng=rng, dtype="float64")
    ids, targets = rng.integers(0, 31, (2, 3, 7))
    targets[0, ::2] = -100
    return model, ids, targets


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("min_fused_size", [0, 2**40])
def test_the_loss_in_blocks_equals_that_of_the_logits_in_value_and_in_every_gradient(name, min_fused_size, monkeypatch):
    monkeypatch.setattr(language_model, "MIN_FUSED_SIZE", min_fused_size)
    model, ids, targets = build(CONFIGS[name])
    expected, cache = model.loss_forward(ids, targets)
    model.loss_backward(2.0, cache)
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    model.zero_grad()
    assert model.add_loss_gradients(ids, targets, dloss=2.0) == pytest.approx(expected, rel=1e-12)
    for key, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.grad, gradients[key], rtol=1e-9, atol=1e-12, err_msg=key)
    if name != "mixture of experts":  # `loss` is the cross-entropy alone
        assert model.loss(ids, targets) == pytest.approx(expected, rel=1e-12)

import dataclasses

import numpy as np
import pytest

from npllm.models import GPT, Decoder, DecoderConfig, GPTConfig
from npllm.models.decoder_config import MoE
from npllm.models.recompute import InputOnly

DECODER = DecoderConfig(vocab_size=31, context_length=8, d_model=16, num_layers=2, dropout=0.2)
CONFIGS = {
    "GPT": GPTConfig(31, 8, 16, 2, 2, embedding_dropout=0.1, attention_dropout=0.2, residual_dropout=0.3),
    "Decoder": DECODER,
    "mixture of experts": dataclasses.replace(DECODER, feed_forward=MoE(num_experts=4)),
    "parallel blocks": dataclasses.replace(DECODER, block="parallel"),
}


def build(config, dtype="float32"):
    """A model and a batch."""
    rng = np.random.default_rng(0)
    model = (GPT if isinstance(config, GPTConfig) else Decoder)(config, rng=rng, dtype=dtype)
    return model, *rng.integers(0, 31, (2, 3, 7))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("has_dropout", [False, True])
def test_loss_gradients_and_later_random_numbers_are_equal_to_the_last_bit(name, has_dropout):
    model, ids, targets = build(CONFIGS[name])
    found = []
    for recompute in (False, True):
        rng = np.random.default_rng(1) if has_dropout else None
        model.zero_grad()
        loss, cache = model.loss_forward(ids, targets, rng=rng, recompute=recompute)
        model.loss_backward(2.0, cache)
        gradients = {key: parameter.grad.copy() for key, parameter in model.named_parameters()}
        found.append((loss, gradients, rng and rng.random()))
    (loss, gradients, number), (loss_again, gradients_again, number_again) = found
    assert (loss, number) == (loss_again, number_again)
    for key, gradient in gradients.items():
        np.testing.assert_array_equal(gradients_again[key], gradient, err_msg=key)


def test_a_cache_can_be_used_twice():
    model, ids, targets = build(CONFIGS["GPT"])
    _, cache = model.loss_forward(ids, targets, rng=np.random.default_rng(1), recompute=True)
    model.loss_backward(1.0, cache)
    once = model.h[0].mlp.c_fc.weight.grad.copy()
    model.loss_backward(1.0, cache)
    np.testing.assert_array_equal(model.h[0].mlp.c_fc.weight.grad, 2 * once)


def test_the_blocks_keep_only_their_inputs():
    model, ids, _ = build(CONFIGS["GPT"])
    _, cache = model.forward(ids, recompute=True)
    _, full = model.forward(ids)
    assert all(isinstance(block, InputOnly) for block in cache.h)
    assert [block.x.shape for block in cache.h] == [(3, 7, 16)] * 2
    assert cache.nbytes < full.nbytes / 3


def test_documents_are_the_same_in_the_repeated_forward():
    model, ids, _ = build(DECODER, "float64")
    documents = np.array([0, 0, 0, 1, 1, 2, 2])
    gradients = []
    for recompute in (False, True):
        model.zero_grad()
        logits, cache = model.forward(ids, document_ids=np.broadcast_to(documents, ids.shape), recompute=recompute)
        model.backward(np.cos(logits), cache)
        gradients.append(model.embed_tokens.weight.grad)
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("name", ["GPT", "Decoder"])
def test_recompute_with_a_kv_cache_is_refused(name):
    model, ids, _ = build(CONFIGS[name])
    with pytest.raises(ValueError, match="recompute is True and kv_cache is set"):
        model.forward(ids, kv_cache=model.new_kv_cache(3), recompute=True)

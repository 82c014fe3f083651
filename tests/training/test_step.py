import numpy as np
import pytest
import torch

from npllm.lessons.bigram import BigramLanguageModel
from npllm.training import SGD, training_step
from npllm.training.step import accumulated_training_step


def model_and_batch(seed=0):
    rng = np.random.default_rng(seed)
    return BigramLanguageModel(7, 5, rng=rng, dtype="float64"), rng.integers(0, 7, (2, 4, 3))


@pytest.mark.parametrize("max_grad_norm", [None, 1e-3, 1e3])
def test_one_step_equals_pytorch(max_grad_norm):
    model, (ids, targets) = model_and_batch()
    wte, head = torch.nn.Embedding(7, 5, dtype=torch.float64), torch.nn.Linear(5, 7, dtype=torch.float64)
    wte.load_state_dict({"weight": torch.tensor(model.wte.weight.data)})
    head.load_state_dict({name: torch.tensor(array) for name, array in model.head.state_dict().items()})
    weights = [*wte.parameters(), *head.parameters()]
    loss = torch.nn.functional.cross_entropy(
        head(wte(torch.tensor(ids))).flatten(0, 1), torch.tensor(targets).flatten()
    )
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(weights, max_grad_norm or torch.inf)
    torch.optim.SGD(weights, 0.5).step()

    result = training_step(model, SGD(model.named_parameters(), 0.5), ids, targets, max_grad_norm=max_grad_norm)
    assert result.loss == pytest.approx(loss.item(), rel=1e-12)
    assert result.grad_norm == (None if max_grad_norm is None else pytest.approx(norm.item(), rel=1e-12))
    for (name, ours), theirs in zip(model.named_parameters(), weights):
        np.testing.assert_allclose(ours.data, theirs.detach(), rtol=1e-10, atol=1e-12, err_msg=name)


def test_gradients_of_an_earlier_step_do_not_count():
    model, (ids, targets) = model_and_batch()
    fresh, _ = model_and_batch()
    for _, parameter in model.named_parameters():
        parameter.add_grad(np.ones(parameter.shape))
    for one in (model, fresh):
        training_step(one, SGD(one.named_parameters(), 0.5), ids, targets)
    for (name, parameter), (_, other) in zip(model.named_parameters(), fresh.named_parameters()):
        np.testing.assert_array_equal(parameter.data, other.data, err_msg=name)


def test_micro_batches_are_weighted():
    model, (ids, targets) = model_and_batch()
    whole, _ = model_and_batch()
    micro_batches = [(0.25, (ids[:1], targets[:1])), (0.75, (ids[1:], targets[1:]))]
    split = accumulated_training_step(model, SGD(model.named_parameters(), 0.5), micro_batches, max_grad_norm=0.1)
    expected = training_step(whole, SGD(whole.named_parameters(), 0.5), ids, targets, max_grad_norm=0.1)
    assert split == pytest.approx(expected, rel=1e-12)
    for (name, parameter), (_, other) in zip(model.named_parameters(), whole.named_parameters()):
        np.testing.assert_allclose(parameter.data, other.data, rtol=1e-12, err_msg=name)


def test_options_are_those_of_loss_forward():
    class Model(BigramLanguageModel):
        def loss_forward(self, ids, targets, *, rng):
            drawn.append(rng.random())
            return super().loss_forward(ids, targets)

    drawn = []
    model = Model(7, 5, rng=np.random.default_rng(0))
    _, (ids, targets) = model_and_batch()
    training_step(model, SGD(model.named_parameters(), 0.5), ids, targets, rng=np.random.default_rng(1))
    assert drawn == [np.random.default_rng(1).random()]

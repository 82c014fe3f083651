import math

import numpy as np
import pytest
import torch

from npllm import functional as F
from npllm.batching import DataLoader, WindowDataset
from npllm.core.gradient_check import check_gradients
from npllm.lessons.bigram import BigramLanguageModel, train
from npllm.models import GPT, GPTConfig
from npllm.training import SGD, AdamW, training_step


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    return rng.integers(0, 11, (3, 6)), rng.integers(0, 11, (3, 6))


def test_gradients_against_finite_differences(batch):
    ids, targets = batch
    model = BigramLanguageModel(11, 8, rng=np.random.default_rng(0), dtype="float64")
    logits, cache = model.forward(ids)
    np.testing.assert_array_equal(model(ids), logits)
    _, loss_cache = F.cross_entropy_forward(logits, targets)
    model.backward(F.cross_entropy_backward(1.0, loss_cache), cache)
    parameters = [parameter for _, parameter in model.named_parameters()]
    check_gradients(
        lambda *_: F.cross_entropy(model(ids), targets),
        [parameter.data for parameter in parameters],
        [parameter.grad for parameter in parameters],
        np.random.default_rng(2),
    )


def test_training_gives_the_losses_and_weights_of_pytorch(batch):
    ids, targets = batch
    model = BigramLanguageModel(11, 8, rng=np.random.default_rng(0), dtype="float64")
    start = model.wte.weight.data.copy()
    wte, head = torch.nn.Embedding(11, 8, dtype=torch.float64), torch.nn.Linear(8, 11, dtype=torch.float64)
    wte.load_state_dict({"weight": torch.tensor(start)})
    head.load_state_dict({name: torch.tensor(array) for name, array in model.head.state_dict().items()})
    theirs = torch.optim.SGD([*wte.parameters(), *head.parameters()], 0.5)
    optimizer = SGD(model.named_parameters(), 0.5)
    losses = []
    for _ in range(50):
        losses.append(training_step(model, optimizer, ids, targets).loss)
        theirs.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            head(wte(torch.tensor(ids))).flatten(0, 1), torch.tensor(targets).flatten()
        )
        loss.backward()
        theirs.step()
        assert losses[-1] == pytest.approx(loss.item(), rel=1e-10)
    assert losses[-1] < 0.6 * losses[0]
    np.testing.assert_allclose(model.wte.weight.data, wte.weight.detach(), rtol=1e-9)
    used = np.isin(np.arange(11), ids)
    assert (model.wte.weight.data[used] != start[used]).any(axis=1).all()
    np.testing.assert_array_equal(model.wte.weight.data[~used], start[~used])


def test_a_gpt_predicts_what_depends_on_the_token_before_the_current_one():
    # 0 1 2 1 0 1 2 1 …: after 1 follows 0 or 2, depending on the token before the 1
    ids = np.array([0, 1, 2, 1] * 60)
    final = {}
    for name in ("bigram", "gpt"):
        rng = np.random.default_rng(0)
        model = BigramLanguageModel(3, 16, rng=rng) if name == "bigram" else GPT(GPTConfig(3, 8, 16, 1, 2), rng=rng)
        loader = DataLoader(WindowDataset(ids, 8, 8), 4, shuffle=True, drop_last=True, rng=rng)
        losses = list(train(model, AdamW(model.named_parameters(), 1e-2), loader, 150))
        assert len(losses) == 150
        final[name] = np.mean(losses[-10:])
    assert final["bigram"] == pytest.approx(math.log(2) / 2, abs=0.08)  # half of the targets have probability 1/2
    assert final["gpt"] < 0.12  # only the first position of each window stays uncertain


def test_a_loader_without_batches_is_an_error():
    model = BigramLanguageModel(3, 4, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="loader has no batch"):
        next(train(model, SGD(model.named_parameters(), 0.1), [], 3))

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm.training import warmup_cosine


@given(st.integers(1, 200), st.integers(0, 50), st.floats(1e-5, 1), st.floats(0, 1))
def test_the_learning_rate_rises_then_falls_between_its_limits(num_steps, warmup, peak, fraction):
    warmup, floor = min(warmup, num_steps), peak * fraction
    rates = [warmup_cosine(step, num_steps, peak, floor, warmup) for step in range(num_steps)]
    rising, falling = rates[:warmup], rates[warmup:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert all(0 < rate <= peak for rate in rates if peak)
    assert all(rate >= floor * (1 - 1e-12) for rate in falling)
    if falling:
        assert falling[0] == pytest.approx(peak)
    assert warmup_cosine(num_steps, num_steps, peak, floor, warmup) == floor


def test_the_cosine_schedule_equals_pytorch():
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40, eta_min=0.02)
    for step in range(40):
        assert warmup_cosine(step, 40, 0.3, 0.02) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        schedule.step()


def test_known_values():
    rates = [warmup_cosine(step, 10, 1.0, 0.1, 4) for step in range(10)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[7] == pytest.approx(0.55)
    assert rates[9] == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi * 5 / 6)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 10, 1.0, 0.0, 11), "warmup_steps is 11"),
        ((0, 10, 1.0, 2.0, 0), "min_learning_rate is 2.0; it must be at least 0 and at most learning_rate, 1.0"),
        ((0, 10, -1.0, -2.0, 0), "min_learning_rate is -2.0"),
    ],
)
def test_invalid_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        warmup_cosine(*arguments)

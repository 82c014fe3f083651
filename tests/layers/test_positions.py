import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import torch_ref.functional
from npllm import functional as F


@given(st.integers(0, 300), st.integers(1, 33), st.sampled_from([100.0, 10000.0]))
def test_equals_pytorch(num_positions, d_model, base):
    ours = F.sinusoidal_positions(num_positions, d_model, base, np.float64)
    theirs = torch_ref.functional.sinusoidal_positions(num_positions, d_model, base, torch.float64)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    assert F.sinusoidal_positions(num_positions, d_model).dtype == np.float32


def test_formula_one_entry_at_a_time():
    table = F.sinusoidal_positions(20, 6, dtype=np.float64)
    for t in range(20):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            assert table[t, 2 * i] == pytest.approx(math.sin(angle), abs=1e-14)
            assert table[t, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-14)


def test_a_step_is_the_same_rotation_from_everywhere():
    table = F.sinusoidal_positions(50, 8, dtype=np.float64)
    products = table @ table.T
    for step in range(10):
        np.testing.assert_allclose(np.diagonal(products, step), products[0, step], atol=1e-12)


def test_no_two_positions_are_alike():
    assert len(np.unique(F.sinusoidal_positions(5000, 16), axis=0)) == 5000


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_positions is -1 and d_model 4"):
        F.sinusoidal_positions(-1, 4)

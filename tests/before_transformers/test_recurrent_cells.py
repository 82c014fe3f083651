import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.core.gradient_check import check_gradients
from tests.equivalence.harness import check_function, implementation
from tests.strategies import arrays, dtypes, leading, sizes

BLOCKS = {"rnn_step": 1, "gru_step": 3, "lstm_step": 4}
KINDS = [pytest.param(name, marks=pytest.mark.piece(name)) for name in BLOCKS]


def inputs(name, draw, H):
    """a, u and, where the gates read it, a part of the state."""
    blocks = BLOCKS[name]
    return [draw(blocks * H), draw(blocks * H), *([] if name == "rnn_step" else [draw(H)])]


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data(), dtype=dtypes, batch=leading, H=sizes, scale=st.sampled_from([1.0, 5.0, 100.0]))
def test_equals_pytorch(name, data, dtype, batch, H, scale):
    check_function(name, *inputs(name, lambda width: data.draw(arrays((*batch, width), dtype, scale)), H))


@pytest.mark.parametrize("name", KINDS)
def test_finite_differences(name):
    rng = np.random.default_rng(0)
    arguments = inputs(name, lambda width: rng.standard_normal((2, width)), 3)
    forward, backward = implementation(f"{name}_forward"), implementation(f"{name}_backward")
    y, cache = forward(*arguments)
    several = y if isinstance(y, tuple) else (y,)
    dy = tuple(rng.standard_normal(part.shape) for part in several)

    def total(*values):
        y = forward(*values)[0]
        return sum((part * d).sum() for part, d in zip(y if isinstance(y, tuple) else (y,), dy))

    check_gradients(total, arguments, backward(dy if len(dy) > 1 else dy[0], cache), rng)


@pytest.mark.piece("gru_step")
@given(st.data(), sizes)
def test_gru_by_plain_loops(data, H):
    a, u, h = inputs("gru_step", lambda width: data.draw(arrays((width,), np.dtype(np.float64))), H)
    new = implementation("gru_step")(a, u, h)
    for j in range(H):
        r = 1 / (1 + math.exp(-(a[j] + u[j])))
        z = 1 / (1 + math.exp(-(a[H + j] + u[H + j])))
        n = math.tanh(a[2 * H + j] + r * u[2 * H + j])
        assert new[j] == pytest.approx((1 - z) * n + z * h[j], rel=1e-12, abs=1e-14)


@pytest.mark.piece("lstm_step")
@given(st.data(), sizes)
def test_lstm_by_plain_loops(data, H):
    a, u, c = inputs("lstm_step", lambda width: data.draw(arrays((width,), np.dtype(np.float64))), H)
    new_h, new_c = implementation("lstm_step")(a, u, c)
    for j in range(H):
        i, f, o = (1 / (1 + math.exp(-(a[block * H + j] + u[block * H + j]))) for block in (0, 1, 3))
        cell = f * c[j] + i * math.tanh(a[2 * H + j] + u[2 * H + j])
        assert new_c[j] == pytest.approx(cell, rel=1e-12, abs=1e-14)
        assert new_h[j] == pytest.approx(o * math.tanh(cell), rel=1e-12, abs=1e-14)


def test_pytorchs_own_cells_say_the_same():
    rng = np.random.default_rng(0)
    x, h, c = (rng.standard_normal((3, width)) for width in (5, 4, 4))
    tx, th, tc = map(torch.from_numpy, (x, h, c))
    for name, cell, state in (
        ("rnn_step", torch.nn.RNNCell(5, 4, dtype=torch.float64), (th,)),
        ("gru_step", torch.nn.GRUCell(5, 4, dtype=torch.float64), (th,)),
        ("lstm_step", torch.nn.LSTMCell(5, 4, dtype=torch.float64), (th, tc)),
    ):
        w_ih, w_hh, b_ih, b_hh = (parameter.detach().numpy() for parameter in cell.parameters())
        a, u = F.linear(x, w_ih, b_ih), F.linear(h, w_hh, b_hh)
        read = {"rnn_step": (), "gru_step": (h,), "lstm_step": (c,)}[name]
        ours = getattr(F, name)(a, u, *read)
        theirs = cell(tx, state if len(state) > 1 else th)
        for one, other in zip(ours if len(state) > 1 else [ours], theirs if len(state) > 1 else [theirs]):
            np.testing.assert_allclose(one, other.detach().numpy(), rtol=1e-12, atol=1e-14)


class TestGates:
    """Gates held open or shut do what their names say."""

    SHUT, OPEN = -1e4, 1e4

    def test_an_open_update_gate_keeps_the_state_and_passes_its_gradient_whole(self):
        h = np.array([0.3, -0.7])
        a = np.concatenate([np.zeros(2), np.full(2, self.OPEN), np.ones(2)])
        new, cache = F.gru_step_forward(a, np.zeros(6), h)
        np.testing.assert_array_equal(new, h)
        np.testing.assert_array_equal(F.gru_step_backward(np.array([2.0, 3.0]), cache)[2], [2.0, 3.0])

    def test_a_shut_update_gate_takes_the_proposal(self):
        a = np.concatenate([np.zeros(2), np.full(2, self.SHUT), np.array([0.5, -0.5])])
        np.testing.assert_allclose(F.gru_step(a, np.zeros(6), np.array([9.0, 9.0])), np.tanh([0.5, -0.5]))

    def test_a_shut_reset_gate_keeps_the_state_out_of_the_proposal(self):
        a = np.concatenate([np.full(2, self.SHUT), np.full(2, self.SHUT), np.array([0.5, -0.5])])
        u = np.concatenate([np.zeros(4), np.array([7.0, 7.0])])
        np.testing.assert_allclose(F.gru_step(a, u, np.zeros(2)), np.tanh([0.5, -0.5]))

    def test_an_open_forget_gate_keeps_the_cell_and_passes_its_gradient_whole(self):
        c = np.array([0.3, -5.0])
        a = np.concatenate([np.full(2, self.SHUT), np.full(2, self.OPEN), np.ones(2), np.full(2, self.SHUT)])
        (h, new_c), cache = F.lstm_step_forward(a, np.zeros(8), c)
        np.testing.assert_array_equal(new_c, c)
        np.testing.assert_array_equal(h, [0, 0])
        np.testing.assert_array_equal(
            F.lstm_step_backward((np.ones(2), np.array([2.0, 3.0])), cache)[2], [2.0, 3.0]
        )  # fmt: skip

    def test_a_shut_forget_gate_forgets(self):
        a = np.concatenate([np.full(2, self.OPEN), np.full(2, self.SHUT), np.array([0.5, -0.5]), np.full(2, self.OPEN)])
        h, c = F.lstm_step(a, np.zeros(8), np.array([100.0, 100.0]))
        np.testing.assert_allclose(c, np.tanh([0.5, -0.5]))
        np.testing.assert_allclose(h, np.tanh(c))


class TestBadInput:
    def test_sums_that_do_not_fit_the_state(self):
        with pytest.raises(ValueError, match=r"the shape of u is \(6,\); it must be \(9,\), that of h, 3 blocks wide"):
            F.gru_step(np.zeros(9), np.zeros(6), np.zeros(3))
        with pytest.raises(ValueError, match=r"the shape of a is \(9,\); it must be \(12,\), that of c, 4 blocks wide"):
            F.lstm_step(np.zeros(9), np.zeros(12), np.zeros(3))
        with pytest.raises(ValueError, match=r"the shape of u is \(3,\); it must be \(2,\), the shape of a"):
            F.rnn_step(np.zeros(2), np.zeros(3))

    def test_a_state_that_is_a_single_number(self):
        with pytest.raises(ValueError, match="h is a single number"):
            F.gru_step(np.zeros(3), np.zeros(3), np.float64(1))

    def test_mixed_dtypes(self):
        with pytest.raises(TypeError, match="h is float32 but a is float64"):
            F.gru_step(np.zeros(3), np.zeros(3), np.zeros(1, np.float32))

    def test_a_cotangent_of_another_shape(self):
        _, cache = F.rnn_step_forward(np.zeros(2), np.zeros(2))
        with pytest.raises(ValueError, match=r"dy has shape \(3,\)"):
            F.rnn_step_backward(np.zeros(3), cache)

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.before_transformers import GRUCell, LSTMCell
from npllm.core.gradient_check import check_gradients
from tests.equivalence import check_function, check_layer, implementation
from tests.strategies import arrays, dtypes, leading, sizes

BLOCKS = {"rnn_step": 1, "gru_step": 3, "lstm_step": 4}
STEPS = [pytest.param(name, marks=pytest.mark.covers(name)) for name in BLOCKS]
NUM_STATES = {"RNNCell": 1, "GRUCell": 1, "LSTMCell": 2}
CELLS = [pytest.param(name, marks=pytest.mark.covers(name)) for name in NUM_STATES]


def inputs(name, draw, H):
    """x_gates, h_gates and, for GRU and LSTM, the state that the step uses directly."""
    blocks = BLOCKS[name]
    return [draw(blocks * H), draw(blocks * H), *([] if name == "rnn_step" else [draw(H)])]


@pytest.mark.parametrize("name", STEPS)
@given(data=st.data(), dtype=dtypes, batch=leading, H=sizes, scale=st.sampled_from([1.0, 5.0, 100.0]))
def test_a_step_equals_pytorch(name, data, dtype, batch, H, scale):
    check_function(name, *inputs(name, lambda size: data.draw(arrays((*batch, size), dtype, scale)), H))


@pytest.mark.parametrize("name", STEPS)
def test_finite_differences_of_a_step(name):
    rng = np.random.default_rng(0)
    arguments = inputs(name, lambda size: rng.standard_normal((2, size)), 3)
    forward, backward = implementation(f"{name}_forward"), implementation(f"{name}_backward")
    y, cache = forward(*arguments)
    dy = tuple(rng.standard_normal(array.shape) for array in _tuple(y))

    def total(*values):
        y = forward(*values)[0]
        return sum((array * d).sum() for array, d in zip(_tuple(y), dy))

    check_gradients(total, arguments, backward(dy if len(dy) > 1 else dy[0], cache), rng)


@pytest.mark.covers("gru_step")
@given(st.data(), sizes)
def test_gru_by_plain_loops(data, H):
    x_gates, h_gates, h = inputs("gru_step", lambda size: data.draw(arrays((size,), np.dtype(np.float64))), H)
    new = implementation("gru_step")(x_gates, h_gates, h)
    for j in range(H):
        r = 1 / (1 + math.exp(-(x_gates[j] + h_gates[j])))
        z = 1 / (1 + math.exp(-(x_gates[H + j] + h_gates[H + j])))
        n = math.tanh(x_gates[2 * H + j] + r * h_gates[2 * H + j])
        assert new[j] == pytest.approx((1 - z) * n + z * h[j], rel=1e-12, abs=1e-14)


@pytest.mark.covers("lstm_step")
@given(st.data(), sizes)
def test_lstm_by_plain_loops(data, H):
    x_gates, h_gates, c = inputs("lstm_step", lambda size: data.draw(arrays((size,), np.dtype(np.float64))), H)
    new_h, new_c = implementation("lstm_step")(x_gates, h_gates, c)
    for j in range(H):
        p = x_gates[j::H] + h_gates[j::H]  # of the four blocks
        i, f, o = (1 / (1 + math.exp(-p[block])) for block in (0, 1, 3))
        cell = f * c[j] + i * math.tanh(p[2])
        assert new_c[j] == pytest.approx(cell, rel=1e-12, abs=1e-14)
        assert new_h[j] == pytest.approx(o * math.tanh(cell), rel=1e-12, abs=1e-14)


def test_steps_equal_torch_nn_cells():
    rng = np.random.default_rng(0)
    x, h, c = (rng.standard_normal((3, size)) for size in (5, 4, 4))
    tx, th, tc = map(torch.from_numpy, (x, h, c))
    for name, cell, state in (
        ("rnn_step", torch.nn.RNNCell(5, 4, dtype=torch.float64), (th,)),
        ("gru_step", torch.nn.GRUCell(5, 4, dtype=torch.float64), (th,)),
        ("lstm_step", torch.nn.LSTMCell(5, 4, dtype=torch.float64), (th, tc)),
    ):
        w_ih, w_hh, b_ih, b_hh = (parameter.detach().numpy() for parameter in cell.parameters())
        x_gates, h_gates = F.linear(x, w_ih, b_ih), F.linear(h, w_hh, b_hh)
        used = {"rnn_step": (), "gru_step": (h,), "lstm_step": (c,)}[name]
        ours = getattr(F, name)(x_gates, h_gates, *used)
        theirs = cell(tx, state if len(state) > 1 else th)
        for one, other in zip(_tuple(ours), _tuple(theirs), strict=True):
            np.testing.assert_allclose(one, other.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", CELLS)
@given(data=st.data(), dtype=dtypes, batch=leading, input_size=sizes, H=sizes, num_given=st.integers(0, 2))
def test_a_cell_equals_pytorch(name, data, dtype, batch, input_size, H, num_given):
    """Also where the states, or the last of them, are not given."""
    states = [data.draw(arrays((*batch, H), dtype)) for _ in range(min(num_given, NUM_STATES[name]))]
    x = data.draw(arrays((*batch, input_size), dtype))
    check_layer(name, {"input_size": input_size, "hidden_size": H}, x, *states, dtype=dtype)


@pytest.mark.parametrize("name", CELLS)
def test_initial_weights_are_distributed_as_in_torch_nn(name):
    layer = implementation(name)(7, 16, rng=np.random.default_rng(0))
    theirs = getattr(torch.nn, name)(7, 16)
    assert {key: array.shape for key, array in layer.state_dict().items()} == {
        key: tuple(tensor.shape) for key, tensor in theirs.state_dict().items()
    }
    for array in layer.state_dict().values():
        assert 0.2 < array.max() <= 0.25
        assert -0.25 <= array.min() < -0.2


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_without_init_has_weights_of_zero(name):
    cell = implementation(name)(7, 16, dtype="float64", init=False)
    assert not any(array.any() for array in cell.state_dict().values())
    cell.init_weights(np.random.default_rng(3))
    drawn = implementation(name)(7, 16, dtype="float64", rng=np.random.default_rng(3)).state_dict()
    for key, array in cell.state_dict().items():
        np.testing.assert_array_equal(array, drawn[key])


class TestGates:
    """Steps with gates that are saturated at 0 (closed) or 1 (open)."""

    CLOSED, OPEN = -1e4, 1e4

    def test_with_an_open_update_gate_state_and_gradient_pass_unchanged(self):
        h = np.array([0.3, -0.7])
        x_gates = np.concatenate([np.zeros(2), np.full(2, self.OPEN), np.ones(2)])
        new, cache = F.gru_step_forward(x_gates, np.zeros(6), h)
        np.testing.assert_array_equal(new, h)
        np.testing.assert_array_equal(F.gru_step_backward(np.array([2.0, 3.0]), cache)[2], [2.0, 3.0])

    def test_with_a_closed_update_gate_the_new_state_is_the_candidate(self):
        x_gates = np.concatenate([np.zeros(2), np.full(2, self.CLOSED), np.array([0.5, -0.5])])
        np.testing.assert_allclose(F.gru_step(x_gates, np.zeros(6), np.array([9.0, 9.0])), np.tanh([0.5, -0.5]))

    def test_with_a_closed_reset_gate_the_candidate_does_not_depend_on_the_state(self):
        x_gates = np.concatenate([np.full(2, self.CLOSED), np.full(2, self.CLOSED), np.array([0.5, -0.5])])
        h_gates = np.concatenate([np.zeros(4), np.array([7.0, 7.0])])
        np.testing.assert_allclose(F.gru_step(x_gates, h_gates, np.zeros(2)), np.tanh([0.5, -0.5]))

    def test_with_an_open_forget_gate_cell_state_and_gradient_pass_unchanged(self):
        c = np.array([0.3, -5.0])
        x_gates = np.concatenate([np.full(2, self.CLOSED), np.full(2, self.OPEN), np.ones(2), np.full(2, self.CLOSED)])
        (h, new_c), cache = F.lstm_step_forward(x_gates, np.zeros(8), c)
        np.testing.assert_array_equal(new_c, c)
        np.testing.assert_array_equal(h, [0, 0])
        np.testing.assert_array_equal(
            F.lstm_step_backward((np.ones(2), np.array([2.0, 3.0])), cache)[2], [2.0, 3.0]
        )  # fmt: skip

    def test_with_a_closed_forget_gate_the_cell_state_is_the_candidate(self):
        i, f, g, o = np.full(2, self.OPEN), np.full(2, self.CLOSED), np.array([0.5, -0.5]), np.full(2, self.OPEN)
        h, c = F.lstm_step(np.concatenate([i, f, g, o]), np.zeros(8), np.array([100.0, 100.0]))
        np.testing.assert_allclose(c, np.tanh([0.5, -0.5]))
        np.testing.assert_allclose(h, np.tanh(c))


class TestBadInput:
    def test_a_cell_refuses_a_state_of_another_shape(self):
        with pytest.raises(ValueError, match=r"c has shape \(4,\); it must be \(2, 4\)"):
            LSTMCell(3, 4, dtype="float64")(np.zeros((2, 3)), np.zeros((2, 4)), np.zeros(4))
        with pytest.raises(TypeError, match="h is float64 but x is float32"):
            GRUCell(3, 4)(np.zeros(3, np.float32), np.zeros(4))

    def test_gates_of_another_shape_than_the_state_are_refused(self):
        with pytest.raises(ValueError, match=r"h_gates has shape \(6,\); it must be \(9,\): 3 blocks"):
            F.gru_step(np.zeros(9), np.zeros(6), np.zeros(3))
        with pytest.raises(ValueError, match=r"x_gates has shape \(9,\); it must be \(12,\): 4 blocks of the shape"):
            F.lstm_step(np.zeros(9), np.zeros(12), np.zeros(3))
        with pytest.raises(ValueError, match=r"h_gates has shape \(3,\); it must be that of x_gates, \(2,\)"):
            F.rnn_step(np.zeros(2), np.zeros(3))

    def test_a_single_number_as_state_is_refused(self):
        with pytest.raises(ValueError, match="h is a single number"):
            F.gru_step(np.zeros(3), np.zeros(3), np.float64(1))

    def test_mixed_dtypes_are_refused(self):
        with pytest.raises(TypeError, match="h is float32 but x_gates is float64"):
            F.gru_step(np.zeros(3), np.zeros(3), np.zeros(1, np.float32))

    def test_a_gradient_of_another_shape_is_refused(self):
        _, cache = F.rnn_step_forward(np.zeros(2), np.zeros(2))
        with pytest.raises(ValueError, match=r"dy has shape \(3,\)"):
            F.rnn_step_backward(np.zeros(3), cache)


def _tuple(value):
    return value if isinstance(value, tuple) else (value,)

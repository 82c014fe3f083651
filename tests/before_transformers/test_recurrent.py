import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import before_transformers
from npllm.core.gradient_check import check_gradients
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, sizes

LAYERS = [pytest.param(name, marks=pytest.mark.covers(name)) for name in ("RNN", "GRU", "LSTM")]
NUM_STATES = {"RNN": 1, "GRU": 1, "LSTM": 2}


def built(name, input_size=3, hidden_size=4, dtype="float64", seed=0):
    """A layer with weights larger than at initialization."""
    rng = np.random.default_rng(seed)
    layer = implementation(name)(input_size, hidden_size, rng=rng, dtype=dtype)
    for _, parameter in layer.named_parameters():
        parameter.data += (0.3 * rng.standard_normal(parameter.shape)).astype(dtype)
    return layer


def state_of(name, rng, *batch, hidden_size=4):
    """Random states: h, and for the LSTM c."""
    return [rng.standard_normal((*batch, hidden_size)) for _ in range(NUM_STATES[name])]


@pytest.mark.parametrize("name", LAYERS)
@given(st.data(), dtypes, leading, sizes, sizes, sizes, st.booleans(), st.booleans())
def test_equals_pytorch(name, data, dtype, batch, T, input_size, H, with_state, masked):
    state = [data.draw(arrays((*batch, H), dtype)) for _ in range(NUM_STATES[name] * with_state)]
    x = data.draw(arrays((*batch, T, input_size), dtype))
    mask = np.random.default_rng(T).random((*batch, T)) < 0.6 if masked else None
    check_layer(name, {"input_size": input_size, "hidden_size": H}, x, *state, dtype=dtype, mask=mask)


@pytest.mark.parametrize("name", LAYERS)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4), with_state=st.booleans())
def test_equals_torch_nn_with_packed_sequences(name, lengths, with_state):
    """torch.nn with pack_padded_sequence: independent of the mask in the PyTorch reference."""
    layer, rng, T = built(name), np.random.default_rng(0), max(lengths)
    x, dy = rng.standard_normal((len(lengths), T, 3)), rng.standard_normal((len(lengths), T, 4))
    mask = np.arange(T) < np.array(lengths)[:, None]
    dy[~mask] = 0  # at padding, torch.nn returns zeros and npllm the last state
    state = state_of(name, rng, len(lengths)) if with_state else []
    dstate = tuple(rng.standard_normal((len(lengths), 4)) for _ in range(NUM_STATES[name]))

    theirs = getattr(torch.nn, name)(3, 4, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict({key: torch.tensor(array) for key, array in layer.state_dict().items()})
    tx, *tstate = (torch.tensor(array, requires_grad=True) for array in (x, *state))
    packed = torch.nn.utils.rnn.pack_padded_sequence(tx, lengths, batch_first=True, enforce_sorted=False)
    first = None if not state else tuple(part[None] for part in tstate) if name == "LSTM" else tstate[0][None]
    packed, last = theirs(packed, first)
    states, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, total_length=T)
    last = [part[0] for part in (last if name == "LSTM" else [last])]
    torch.autograd.backward([states, *last], [torch.tensor(d) for d in (dy, *dstate)])

    (ours, *our_last), cache = layer.forward(x, *state, mask=mask)
    dx, *dfirst = _tuple(layer.backward((dy, *dstate), cache))
    np.testing.assert_allclose(ours[mask], states.detach().numpy()[mask], rtol=1e-10, atol=1e-12)
    for one, other in zip(our_last, last, strict=True):
        np.testing.assert_allclose(one, other.detach().numpy(), rtol=1e-10, atol=1e-12)
    for one, other in zip([dx, *dfirst], [tx, *tstate], strict=True):
        np.testing.assert_allclose(one, other.grad.numpy(), rtol=1e-10, atol=1e-12)
    for key, parameter in theirs.named_parameters():
        np.testing.assert_allclose(
            dict(layer.named_parameters())[key].grad, parameter.grad.numpy(), rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("name", LAYERS)
def test_finite_differences(name):
    layer, rng = built(name), np.random.default_rng(1)
    x, state = rng.standard_normal((2, 4, 3)), state_of(name, rng, 2)
    mask = np.array([[True, True, True, True], [True, False, True, False]])
    outputs, cache = layer.forward(x, *state, mask=mask)
    dy = tuple(rng.standard_normal(y.shape) for y in outputs)
    gradients = layer.backward(dy, cache)
    parameters = [parameter for _, parameter in layer.named_parameters()]
    check_gradients(
        lambda *_: sum((y * d).sum() for y, d in zip(layer.forward(x, *state, mask=mask)[0], dy)),
        [x, *state, *(parameter.data for parameter in parameters)],
        [*gradients, *(parameter.grad for parameter in parameters)],
        rng,
    )


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_equals_its_cell_in_a_loop(name):
    layer, rng = built(name), np.random.default_rng(1)
    cell = implementation(f"{name}Cell")(3, 4, dtype="float64")
    cell.load_state_dict({key.removesuffix("_l0"): array for key, array in layer.state_dict().items()})
    x, state = rng.standard_normal((5, 3)), state_of(name, rng)
    states, *last = layer(x, *state)
    for t in range(5):
        state = _tuple(cell(x[t], *state))
        np.testing.assert_allclose(states[t], state[0], rtol=1e-12, atol=1e-14)
    for one, other in zip(last, state, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", LAYERS)
@given(data=st.data(), T=st.integers(2, 7))
def test_two_halves_with_the_state_passed_on_equal_the_whole_sequence(name, data, T):
    layer = built(name)
    x, middle = data.draw(arrays((2, T, 3), np.dtype(np.float64))), data.draw(st.integers(0, T))
    states, *last = layer(x)
    first, *between = layer(x[:, :middle])
    second, *end = layer(x[:, middle:], *between)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), states, rtol=1e-12, atol=1e-14)
    for one, other in zip(end, last, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_two_halves_equal_those_of_the_whole_sequence(name):
    """The gradient of the second half's initial state is the gradient of the first half's last state."""
    layer, rng = built(name), np.random.default_rng(2)
    x, dy = rng.standard_normal((2, 6, 3)), rng.standard_normal((2, 6, 4))
    dlast = tuple(rng.standard_normal((2, 4)) for _ in range(NUM_STATES[name]))
    _, cache = layer.forward(x)
    dx = layer.backward((dy, *dlast), cache)
    whole = {key: parameter.grad for key, parameter in layer.named_parameters()}
    layer.zero_grad()
    (_, *between), first = layer.forward(x[:, :2])
    _, second = layer.forward(x[:, 2:], *between)
    dx_second, *dbetween = layer.backward((dy[:, 2:], *dlast), second)
    dx_first = layer.backward((dy[:, :2], *dbetween), first)
    np.testing.assert_allclose(np.concatenate([dx_first, dx_second], axis=1), dx, rtol=1e-10, atol=1e-12)
    for key, parameter in layer.named_parameters():
        np.testing.assert_allclose(parameter.grad, whole[key], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_a_call_does_not_depend_on_earlier_calls(name):
    layer, rng = built(name), np.random.default_rng(3)
    x, other = rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 4, 3))
    before = layer(x)
    layer(other)
    for one, again in zip(before, layer(x)):
        np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize("name", LAYERS)
def test_sequences_of_a_batch_are_independent(name):
    layer, rng = built(name), np.random.default_rng(4)
    x = rng.standard_normal((3, 5, 3))
    (states, *_), cache = layer.forward(x)
    np.testing.assert_allclose(states[1], layer(x[1])[0], rtol=1e-12, atol=1e-14)
    dy = np.zeros((3, 5, 4))
    dy[1] = rng.standard_normal((5, 4))
    dx = layer.backward((dy, *(np.zeros((3, 4)) for _ in range(NUM_STATES[name]))), cache)
    assert not dx[[0, 2]].any()
    assert dx[1].all()


@pytest.mark.parametrize("name", LAYERS)
def test_a_state_depends_on_all_earlier_positions_and_no_later_one(name):
    layer, rng = built(name), np.random.default_rng(5)
    _, cache = layer.forward(rng.standard_normal((6, 3)))
    dy = np.zeros((6, 4))
    dy[3] = rng.standard_normal(4)
    dx = layer.backward((dy, *(np.zeros(4) for _ in range(NUM_STATES[name]))), cache)
    assert dx[:4].all()
    assert not dx[4:].any()


@pytest.mark.parametrize("name", LAYERS)
def test_padding_leaves_the_state_unchanged(name):
    layer, rng = built(name), np.random.default_rng(6)
    x = rng.standard_normal((2, 5, 3))
    mask = np.array([[True] * 5, [True, True, True, False, False]])
    states, *last = layer(x, mask=mask)
    short, *short_last = layer(x[1, :3])
    np.testing.assert_allclose(states[1, :3], short, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(states[1, 3:], states[1, [2, 2]])
    for one, other in zip(last, short_last, strict=True):
        np.testing.assert_allclose(one[1], other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", LAYERS)
def test_an_empty_sequence_returns_the_initial_state(name):
    layer, rng = built(name), np.random.default_rng(7)
    state = state_of(name, rng, 2)
    (states, *last), cache = layer.forward(np.zeros((2, 0, 3)), *state)
    assert states.shape == (2, 0, 4)
    for one, other in zip(last, state, strict=True):
        np.testing.assert_array_equal(one, other)
    dx, *dstate = layer.backward((states, *last), cache)
    assert dx.shape == (2, 0, 3)
    for one, other in zip(dstate, state, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", LAYERS)
def test_initial_weights_are_distributed_as_in_torch_nn(name):
    layer = implementation(name)(7, 16, rng=np.random.default_rng(0))
    theirs = getattr(torch.nn, name)(7, 16)
    assert {key: array.shape for key, array in layer.state_dict().items()} == {
        key: tuple(tensor.shape) for key, tensor in theirs.state_dict().items()
    }
    for array in layer.state_dict().values():
        assert 0.2 < array.max() <= 0.25
        assert -0.25 <= array.min() < -0.2


class TestBadInput:
    def test_a_single_vector_is_refused(self):
        with pytest.raises(ValueError, match=r"x has shape \(3,\); it must be a sequence"):
            before_transformers.GRU(3, 4)(np.zeros(3, np.float32))

    def test_a_state_of_another_shape_is_refused(self):
        with pytest.raises(ValueError, match=r"h has shape \(1, 4\); it must be \(2, 4\)"):
            before_transformers.GRU(3, 4, dtype="float64")(np.zeros((2, 5, 3)), np.zeros((1, 4)))
        with pytest.raises(ValueError, match=r"c has shape \(4,\); it must be \(2, 4\)"):
            before_transformers.LSTM(3, 4, dtype="float64")(np.zeros((2, 5, 3)), np.zeros((2, 4)), np.zeros(4))

    def test_a_state_of_another_dtype_is_refused(self):
        with pytest.raises(TypeError, match="h is float64 but x is float32; they must have one dtype"):
            before_transformers.RNN(3, 4)(np.zeros((2, 5, 3), np.float32), np.zeros((2, 4)))

    def test_too_many_states_are_refused(self):
        with pytest.raises(TypeError, match="GRU got 2 states; it has 1: h"):
            before_transformers.GRU(3, 4)(
                np.zeros((5, 3), np.float32), np.zeros(4, np.float32), np.zeros(4, np.float32)
            )

    def test_a_mask_of_another_dtype_or_shape_is_refused(self):
        x = np.zeros((2, 5, 3), np.float32)
        with pytest.raises(TypeError, match="mask has dtype int64; it must be boolean"):
            before_transformers.RNN(3, 4)(x, mask=np.ones((2, 5), int))
        with pytest.raises(ValueError, match=r"mask has shape \(5,\); it must be \(2, 5\)"):
            before_transformers.RNN(3, 4)(x, mask=np.ones(5, bool))

    def test_a_size_of_0_is_refused(self):
        with pytest.raises(ValueError, match="hidden_size is 0; it must be at least 1"):
            before_transformers.LSTM(3, 0)

    def test_a_gradient_of_another_shape_is_refused(self):
        layer = before_transformers.LSTM(3, 4, dtype="float64")
        (states, h, c), cache = layer.forward(np.zeros((2, 5, 3)))
        with pytest.raises(ValueError, match="dy has shape"):
            layer.backward((states[:, :4], h, c), cache)
        with pytest.raises(ValueError, match="dy has shape"):
            layer.backward((states, h, c[:1]), cache)


def _tuple(value):
    return value if isinstance(value, tuple) else (value,)

"""The checks of arguments, alone and in every function that has a backward."""

import numpy as np
import pytest

from npllm import functional as F
from npllm.core import checks

RNG = np.random.default_rng(0)


def normal(*shape):
    """Random numbers in float32."""
    return RNG.standard_normal(shape, dtype=np.float32)


IDS = np.array([[0, 3, 1], [2, 2, 0]])
CALLS = {  # of every function that has a backward, a call with its forward
    "normalize_by_sum": lambda: F.normalize_by_sum_forward(np.abs(normal(2, 3)) + 1),
    "softmax_naive": lambda: F.softmax_naive_forward(normal(2, 3)),
    "softmax": lambda: F.softmax_forward(normal(2, 3)),
    "log_softmax": lambda: F.log_softmax_forward(normal(2, 3)),
    "embedding": lambda: F.embedding_forward(IDS, normal(4, 3)),
    "linear": lambda: F.linear_forward(normal(2, 3), normal(4, 3), normal(4)),
    "layer_norm": lambda: F.layer_norm_forward(normal(2, 3), normal(3), normal(3)),
    "rms_norm": lambda: F.rms_norm_forward(normal(2, 3), normal(3)),
    "relu": lambda: F.relu_forward(normal(2, 3)),
    "sigmoid": lambda: F.sigmoid_forward(normal(2, 3)),
    "silu": lambda: F.silu_forward(normal(2, 3)),
    "quick_gelu": lambda: F.quick_gelu_forward(normal(2, 3)),
    "tanh": lambda: F.tanh_forward(normal(2, 3)),
    "squared_relu": lambda: F.squared_relu_forward(normal(2, 3)),
    "gelu": lambda: F.gelu_forward(normal(2, 3)),
    "dropout": lambda: F.dropout_forward(normal(2, 3), 0.5, rng=np.random.default_rng(0)),
    "cross_entropy": lambda: F.cross_entropy_forward(normal(2, 3, 4), IDS, reduction="none"),
    "attention": lambda: F.attention_forward(normal(4, 2, 3), normal(2, 5, 3), normal(2, 5, 4)),
    "softcap": lambda: F.softcap_forward(normal(2, 3), 5.0),
    "scaled_dot_product_attention": lambda: F.scaled_dot_product_attention_forward(
        normal(4, 2, 3), normal(2, 5, 3), normal(2, 5, 4), enable_gqa=True
    ),
    "relative_attention": lambda: F.relative_attention_forward(
        normal(2, 3), normal(5, 3), normal(5, 4), normal(2, 3), normal(2, 4), np.eye(2, 5, dtype=int)
    ),
    "additive_scores": lambda: F.additive_scores_forward(normal(2, 3), normal(4, 3), normal(3)),
    "weighted_average": lambda: F.weighted_average_forward(normal(2, 4), normal(4, 3)),
    "rnn_step": lambda: F.rnn_step_forward(normal(2, 3), normal(2, 3)),
    "gru_step": lambda: F.gru_step_forward(normal(2, 9), normal(2, 9), normal(2, 3)),
    "lstm_step": lambda: F.lstm_step_forward(normal(2, 12), normal(2, 12), normal(2, 3)),
    "elu_plus_one": lambda: F.elu_plus_one_forward(normal(2, 3)),
    "l2_normalize": lambda: F.l2_normalize_forward(normal(2, 3)),
    "linear_cross_entropy": lambda: F.linear_cross_entropy_forward(
        normal(3, 4), normal(5, 4), np.array([0, 4, 2]), reduction="none"
    ),
    "linear_attention": lambda: F.linear_attention_forward(abs(normal(5, 3)), abs(normal(5, 3)), normal(5, 4)),
    "linear_attention_recurrent": lambda: F.linear_attention_recurrent_forward(
        abs(normal(5, 3)), abs(normal(5, 3)), normal(5, 4)
    ),
    "linear_attention_chunked": lambda: F.linear_attention_chunked_forward(
        abs(normal(5, 3)), abs(normal(5, 3)), normal(5, 4), chunk=2
    ),
    "delta_rule": lambda: F.delta_rule_forward(normal(5, 3), normal(5, 3), normal(5, 4), abs(normal(5))),
    "delta_rule_chunked": lambda: F.delta_rule_chunked_forward(
        normal(5, 3), normal(5, 3), normal(5, 4), abs(normal(5)), chunk=2
    ),
    "rotary": lambda: F.rotary_forward(normal(3, 4), np.arange(3), F.rotary_frequencies(4)),
}


ONE_NUMBER = ["negative_sampling"]  # its gradient may be a plain number


def test_no_function_with_a_backward_is_left_out():
    assert sorted([*CALLS, *ONE_NUMBER]) == sorted(
        name.removesuffix("_backward") for name in vars(F) if name.endswith("_backward") and callable(vars(F)[name])
    )


@pytest.mark.parametrize("name", CALLS)
def test_a_gradient_of_another_shape_is_refused(name):
    y, cache = CALLS[name]()
    backward = getattr(F, f"{name}_backward")
    for change in (lambda y: y[:1], lambda y: y[None], lambda y: y[..., :1], lambda y: np.float32(1.0)):
        wrong = tuple(map(change, y)) if isinstance(y, tuple) else change(y)
        with pytest.raises(ValueError, match="dy has shape .* it must be that of the output"):
            backward(wrong, cache)


@pytest.mark.parametrize("name", CALLS)
def test_a_gradient_of_another_dtype_is_refused(name):
    y, cache = CALLS[name]()
    for dtype in (np.float64, np.float16, int):
        with pytest.raises(TypeError, match="dy has dtype .* it must be that of the output, float32"):
            wrong = tuple(part.astype(dtype) for part in y) if isinstance(y, tuple) else y.astype(dtype)
            getattr(F, f"{name}_backward")(wrong, cache)


def test_the_gradient_of_one_number_may_be_a_plain_number():
    _, cache = F.cross_entropy_forward(normal(2, 4), np.array([1, 3]))
    expected = F.cross_entropy_backward(np.float32(2.0), cache)
    for two in (2, 2.0, np.float64(2.0)):
        dlogits = F.cross_entropy_backward(two, cache)
        np.testing.assert_array_equal(dlogits, expected)
        assert dlogits.dtype == np.float32
    with pytest.raises(TypeError, match="dy has dtype"):
        F.cross_entropy_backward("2", cache)


HALF = np.float64(0.5)  # a NumPy scalar, which promotes a float32 array where a Python float does not


@pytest.mark.parametrize(
    ("name", "forward"),
    [
        ("layer_norm", lambda: F.layer_norm_forward(normal(2, 3), eps=HALF)),
        ("rms_norm", lambda: F.rms_norm_forward(normal(2, 3), eps=HALF)),
        ("dropout", lambda: F.dropout_forward(normal(2, 3), HALF, rng=np.random.default_rng(0))),
        ("cross_entropy", lambda: F.cross_entropy_forward(normal(2, 4), np.array([1, 3]), label_smoothing=HALF)),
        (
            "scaled_dot_product_attention",
            lambda: F.scaled_dot_product_attention_forward(*normal(3, 2, 3), scale=HALF, softcap=HALF),
        ),
    ],
)
def test_an_option_given_as_a_numpy_number_changes_no_dtype(name, forward):
    y, cache = forward()
    dy = RNG.standard_normal(np.shape(y), dtype=np.float32)
    gradients = getattr(F, f"{name}_backward")(dy, cache)
    for array in (y, *(gradients if isinstance(gradients, tuple) else [gradients])):
        assert array.dtype == np.float32
    for where, array in cache.arrays():
        assert array.dtype != np.float64, where


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: checks.check_positive(d_in=3, num_heads=0), ValueError, "num_heads is 0; it must be at least 1"),
        (lambda: checks.check_context_length(-1, 4), ValueError, "the number of positions is -1"),
        (lambda: checks.as_indices("ids", 7, 0, 5), IndexError, r"ids is 7; it must be in \[0, 5\)"),
        (lambda: checks.as_indices("ids", [[1, 7]], 0, 5), IndexError, r"ids\[0, 1\] is 7; it must be in \[0, 5\)"),
        (lambda: checks.check_probability("p", float("nan")), ValueError, "p is nan; it must be at least 0"),
        (lambda: F.dropout(normal(3), 0.5, rng=7), TypeError, "rng is 7; it must be a numpy.random.Generator"),
        (
            lambda: F.cross_entropy(np.float32(1), np.array(0)),
            ValueError,
            r"logits has shape \(\); it must be \(..., V\)",
        ),
        (
            lambda: F.scaled_dot_product_attention(*normal(3, 2, 3), softcap=0.0),
            ValueError,
            "softcap is 0.0; it must be greater than 0",
        ),
        (
            lambda: F.scaled_dot_product_attention(*normal(3, 2, 3), dropout_mask=[[1.0, 2.0]] * 2),
            TypeError,
            "dropout_mask has dtype float64; it must be that of q, float32",
        ),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("shape", "pattern", "sizes", "found"),
    [
        ((2, 3), "(O, I)", {}, {"O": 2, "I": 3}),
        ((2, 3), "(..., I)", {"I": 3}, {"I": 3}),
        ((3,), "(..., I)", {}, {"I": 3}),
        ((5, 2, 3), "(..., T, C)", {"C": 3}, {"T": 2, "C": 3}),
        ((4, 4), "(T, T)", {}, {"T": 4}),
        ((), "()", {}, {}),
        ((0,), "(N)", {}, {"N": 0}),
    ],
)
def test_check_shape_returns_the_size_of_every_letter(shape, pattern, sizes, found):
    assert checks.check_shape("x", np.zeros(shape), pattern, **sizes) == found


@pytest.mark.parametrize(
    ("shape", "pattern", "sizes", "message"),
    [
        ((2, 3), "(..., I)", {"I": 4}, "x has shape (2, 3); it must be (..., I) with I = 4"),
        ((), "(..., I)", {}, "x has shape (); it must be (..., I)"),
        ((3,), "(..., T, C)", {"C": 3}, "x has shape (3,); it must be (..., T, C) with C = 3"),
        ((2, 3, 4), "(O, I)", {}, "x has shape (2, 3, 4); it must be (O, I)"),
        ((3, 4), "(T, T)", {}, "x has shape (3, 4); it must be (T, T)"),
        ((3, 4), "(O, I)", {"I": 3, "O": 4}, "x has shape (3, 4); it must be (O, I) with O = 4, I = 3"),
        ((1,), "()", {}, "x has shape (1,); it must be ()"),
    ],
)
def test_check_shape_names_the_expected_shape(shape, pattern, sizes, message):
    with pytest.raises(ValueError) as caught:
        checks.check_shape("x", np.zeros(shape), pattern, **sizes)
    assert str(caught.value) == message


def test_the_error_for_mixed_dtypes_names_the_remedy():
    x, weight = np.zeros(3), np.zeros(3, np.float32)
    with pytest.raises(TypeError) as caught:
        checks.as_floats(x=x, weight=weight)
    assert str(caught.value) == (
        "weight is float32 but x is float64; they must have one dtype: use "
        'x.astype("float32"), or construct the layer with dtype="float64"'
    )
    with pytest.raises(TypeError, match=r"x has dtype int64; it must be floating point \(try x.astype"):
        checks.as_floats(x=np.arange(3))
    with pytest.raises(TypeError, match="x is None; it must be an array"):
        checks.as_floats(x=None, weight=weight)


def test_as_floats_returns_a_single_array_without_a_tuple_and_keeps_none():
    x = normal(3)
    assert checks.as_floats(x=x) is x
    first, second = checks.as_floats(x=x, bias=None)
    assert first is x and second is None

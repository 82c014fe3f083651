"""The helper that everything rests on must itself see what is wrong: every test here hands it something broken."""

import dataclasses
import inspect
from types import SimpleNamespace

import numpy as np
import pytest

import npllm.attention
import npllm.functional
import npllm.layers
import npllm.models
from npllm import functional as F
from npllm.core import Module
from npllm.functional import Cache
from npllm.layers import Dropout, Linear
from tests.equivalence import harness as equivalence
from tests.equivalence.docstring_shapes import check_stated_shapes, stated_shapes
from tests.equivalence.harness import TOLERANCE, check_function, check_layer, difference, implementation, twin
from tests.equivalence.verify import PIECES


@pytest.fixture
def learner():
    """Let a test put its own implementation in place of npllm's."""
    module = SimpleNamespace()
    before = equivalence._learner
    equivalence.use_implementation(module)
    yield module
    equivalence.use_implementation(before)


X = np.random.default_rng(0).standard_normal((3, 4, 5))


class TestFunctions:
    def test_a_right_implementation_passes(self, learner):
        learner.softmax = lambda x, axis=-1: np.exp(x) / np.exp(x).sum(axis, keepdims=True)
        check_function("softmax", X)

    def test_a_wrong_value(self, learner):
        learner.softmax = lambda x, axis=-1: F.softmax(x, axis=0)
        with pytest.raises(AssertionError, match="output: largest difference"):
            check_function("softmax", X)

    def test_a_wrong_gradient(self, learner):
        learner.softmax_backward = lambda dy, cache: cache.y * dy
        with pytest.raises(AssertionError, match="gradient of x: largest difference"):
            check_function("softmax", X)

    def test_a_zero_gradient(self, learner):
        learner.softmax_backward = lambda dy, cache: np.zeros_like(dy)
        with pytest.raises(AssertionError, match="gradient of x"):
            check_function("softmax", X)

    def test_a_forward_that_differs_from_the_value(self, learner):
        learner.softmax_forward = lambda x, axis=-1: (F.softmax(x), None)
        check_function("softmax", X)
        learner.softmax, learner.softmax_backward = F.softmax, F.softmax_backward
        learner.softmax_forward = lambda x, axis=-1: (F.softmax(x) * 1.0000001, F.softmax_forward(x)[1])
        with pytest.raises(AssertionError, match="softmax_forward must give the value"):
            check_function("softmax", X)

    def test_another_dtype(self, learner):
        learner.softmax = lambda x, axis=-1: F.softmax(x.astype(np.float64))
        with pytest.raises(AssertionError, match="output is float64; it must be float32"):
            check_function("softmax", X.astype(np.float32))

    def test_writing_into_the_input(self, learner):
        def softmax(x, axis=-1):
            x -= x.max(axis=axis, keepdims=True)
            return F.softmax(x)

        learner.softmax = softmax
        with pytest.raises(ValueError, match="read-only"):
            check_function("softmax", X)

    def test_writing_into_the_cache(self, learner):
        def backward(dy, cache):
            cache.y *= 1
            return F.softmax_backward(dy, cache)

        learner.softmax_backward = backward
        with pytest.raises(ValueError, match="read-only"):
            check_function("softmax", X)

    def test_a_missing_gradient(self, learner):
        learner.linear_backward = lambda dy, cache: F.linear_backward(dy, cache)[:2]
        with pytest.raises(AssertionError, match="2 gradients for"):
            check_function("linear", np.ones((2, 3)), np.ones((4, 3)), np.ones(4))


class TestLayers:
    def config(self):
        return {"in_features": 5, "out_features": 3}

    def test_a_right_implementation_passes(self, learner):
        class Linear2(Linear):
            pass

        learner.Linear = Linear2
        check_layer("Linear", self.config(), X, dtype="float64")

    @pytest.mark.parametrize(
        ("broken", "message"),
        [
            (lambda layer, dx: dx * 0, "gradient of input"),
            (lambda layer, dx: layer.weight.grad.__imul__(2) is None or dx, "gradient of parameter weight"),
            (lambda layer, dx: setattr(layer.bias, "grad", None) or dx, "left bias without a gradient"),
            (lambda layer, dx: None, "must return a gradient"),
        ],
    )
    def test_a_wrong_backward(self, learner, broken, message):
        class Broken(Linear):
            def backward(self, dy, cache):
                return broken(self, super().backward(dy, cache))

        learner.Linear = Broken
        with pytest.raises(AssertionError, match=message):
            check_layer("Linear", self.config(), X, dtype="float64")

    def test_a_gradient_that_is_somebody_elses_array(self, learner):
        class Aliasing(Linear):
            def backward(self, dy, cache):
                dx = super().backward(dy, cache)
                self.bias.grad = dy[0, 0]
                return dx

        learner.Linear = Aliasing
        with pytest.raises(AssertionError, match="must be an array of its own"):
            check_layer("Linear", self.config(), X, dtype="float64")

    def test_a_parameter_that_is_kept_quiet(self, learner):
        class Quiet(Linear):
            def named_parameters(self, prefix=""):
                return (pair for pair in super().named_parameters(prefix) if not pair[0].endswith("bias"))

        learner.Linear = Quiet
        with pytest.raises(AssertionError, match=r"has parameters \['weight'\]; the twin"):
            check_layer("Linear", self.config(), X, dtype="float64")

    def test_gradients_that_do_not_add_up(self, learner):
        class Assigning(Linear):
            def backward(self, dy, cache):
                self.zero_grad()
                return super().backward(dy, cache)

        learner.Linear = Assigning
        with pytest.raises(AssertionError, match="backward must add to weight.grad"):
            check_layer("Linear", self.config(), X, dtype="float64")

    def test_a_layer_that_keeps_its_input(self, learner):
        class Keeping(Linear):
            def forward(self, x):
                self.x = x
                return super().forward(x)

            def backward(self, dy, cache):
                cache.x = self.x
                return super().backward(dy, cache)

        learner.Linear = Keeping
        with pytest.raises(AssertionError, match="gradient of parameter weight"):
            check_layer("Linear", self.config(), X, dtype="float64")

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (lambda mask: mask * 7, "must multiply by 0 or 1"),
            (lambda mask: np.ones_like(mask), "must multiply by 0 or 1"),
        ],
    )
    def test_a_wrong_dropout_mask(self, learner, wrong, message):
        class Wrong(Dropout):
            def forward(self, x, *, rng=None):
                dropout_mask = wrong(self.draw_dropout_mask(x.shape, rng, x.dtype)) if rng else np.ones_like(x)
                return x * dropout_mask, Cache(dropout_mask=dropout_mask)

        learner.Dropout = Wrong
        with pytest.raises(AssertionError, match=message):
            check_layer("Dropout", {"p": 0.3}, X, dtype="float64", dropout=True)

    def test_a_single_gradient_in_a_tuple(self, learner):
        learner.softmax_backward = lambda dy, cache: (F.softmax_backward(dy, cache),)
        with pytest.raises(AssertionError, match="must give a single gradient bare"):
            check_function("softmax", X)

    def test_other_names_of_parameters(self, learner):
        class Renamed(Module):
            def __init__(self, in_features, out_features, *, rng, dtype):
                self.inner = Linear(in_features, out_features, rng=rng, dtype=dtype)

        learner.Linear = Renamed
        with pytest.raises(RuntimeError, match="inner.weight"):
            check_layer("Linear", self.config(), X, dtype="float64")

    def test_a_layer_without_a_backward_is_compared_in_value(self, learner):
        class OnlyForward(Linear):
            backward = Module.backward

        learner.Linear = OnlyForward
        check_layer("Linear", self.config(), X, dtype="float64")


class TestDifference:
    def measure(self, ours, theirs):
        import torch

        return difference("x", np.array(ours), torch.tensor(theirs, dtype=torch.float64), np.dtype(np.float64))

    def test_nan_and_infinity_must_stand_in_the_same_places(self):
        assert self.measure([np.nan, np.inf, 1.0], [np.nan, np.inf, 1.0]).share == 0
        for ours in ([0.0, np.inf, 1.0], [np.nan, -np.inf, 1.0], [np.nan, np.inf, np.nan], [np.nan, 5.0, 1.0]):
            assert self.measure(ours, [np.nan, np.inf, 1.0]).share == np.inf

    def test_share_of_the_tolerance(self):
        rtol, atol = TOLERANCE[np.dtype(np.float64)]
        assert self.measure([1.0 + 2 * (rtol + atol)], [1.0]).share == pytest.approx(2, rel=1e-4)

    def test_shapes_must_be_equal(self):
        with pytest.raises(AssertionError, match="shape"):
            self.measure([[1.0]], [1.0])


class TestDocstringShapes:
    def test_what_is_stated(self):
        assert stated_shapes("y = x      (..., I), (O, I) → (..., O)") == (
            [["...", "I"], ["O", "I"]],
            [["...", "O"]],
            False,
        )
        assert stated_shapes("y      (N) → () or (N)") == ([["N"]], [[], ["N"]], True)
        assert stated_shapes("No shapes here (at all).") is None

    def test_a_lie_is_found(self):
        doc = "y = x Wᵀ      (..., I), (O, I) → (..., O)"
        x, weight = np.zeros((2, 3)), np.zeros((4, 3))
        assert check_stated_shapes(doc, [x, weight], [np.zeros((2, 4))]) == {"I": 3, "O": 4}
        for output in (np.zeros((2, 3)), np.zeros((5, 4)), np.zeros(4)):
            with pytest.raises(AssertionError):
                check_stated_shapes(doc, [x, weight], [output])

    def test_every_function_and_class_states_its_shapes(self):
        exempt = {"Cache", "Module", "Parameter", "draw_dropout_mask", "sinusoidal_positions", "softmax_naive_limit"}
        exempt |= {"causal_mask", "GPTConfig", "alibi_slopes", "halves_from_pairs"}
        exempt |= {name for name in vars(F) if name.endswith(("_frequencies", "_amplitude"))}  # tables, not functions
        exempt |= {"KVCache", "SlidingWindowKVCache", "PARTS", "DecoderConfig"}
        exempt |= {"ARCHITECTURES", "architecture", "build", "from_pretrained"}
        silent = []
        for room in (npllm.functional, npllm.layers, npllm.attention, npllm.models):
            for name, item in vars(room).items():
                if name.startswith("_") or name in exempt or name.endswith("_forward") or inspect.ismodule(item):
                    continue
                if dataclasses.is_dataclass(item):
                    continue
                if stated_shapes(item.__doc__) is None:
                    silent.append(name)
        assert not silent, f"no shapes in the first line of {silent}"


class TestCompleteness:
    def test_every_function_has_three_forms_and_a_twin(self):
        forms = [name for name in vars(F) if name.endswith("_backward")]
        assert len(forms) >= 13
        for backward in forms:
            name = backward.removesuffix("_backward")
            assert callable(getattr(F, name))
            assert callable(getattr(F, f"{name}_forward"))
            assert callable(twin(name))
            ours = list(inspect.signature(getattr(F, name)).parameters)
            theirs = list(inspect.signature(twin(name)).parameters)
            assert ours == theirs or name == "dropout", f"{name}{ours} but the twin has {theirs}"

    def test_every_class_has_a_twin_with_the_same_arguments(self):
        for name, ours in _classes():
            theirs = twin(name)
            if not theirs.__module__.startswith("torch_ref"):
                continue  # torch.nn's own class; build() has shown that our arguments fit
            parameters = [p for p in inspect.signature(ours).parameters if p not in ("rng", "dtype", "init")]
            assert parameters == list(inspect.signature(theirs).parameters)[: len(parameters)], name

    def test_verify_has_a_row_for_every_piece(self):
        source = inspect.getsource(inspect.getmodule(PIECES["softmax"]))
        pieces = {name.removesuffix("_backward") for name in vars(F) if name.endswith("_backward")}
        pieces |= {name for name, _ in _classes()}
        missing = [name for name in pieces - {"dropout"} if f'"{name}"' not in source]
        assert not missing, f"npllm verify does not check {missing}"

    def test_unknown_name(self):
        with pytest.raises(KeyError, match="hardmax is in none of"):
            implementation("hardmax")


def _classes():
    for room in (npllm.layers, npllm.attention, npllm.models):
        for name, item in vars(room).items():
            if inspect.isclass(item) and issubclass(item, Module) and item is not Module:
                yield name, item

"""Numbers at the edge, odd memory layouts and other kinds of arrays, for every case of `cases.py`.

    CASES["softmax"](EdgeInputs(seed=0, dtype="float32"))        raises AssertionError for the first fault

A new function or layer with a case in `cases.py` is covered without more code. `EdgeInputs` has the methods of
`RandomInputs`, which a case calls; its `function` and `layer` make a call of edges_calls.py and check it:

    check_values     inf, nan, denormals and the largest numbers: each result is PyTorch's or the right one; the
                     functions and layers of npllm/layers give no warning
    check_layouts    the layout, byte order and class of an array change no result; no result shares memory with an
                     argument, no argument is written to
    check_kinds      masked arrays and arrays that are not floating point are refused by name
    check_sizes      an axis of size 0 or 1 gives what PyTorch gives, or is refused

An exception from a rule stands in one of the tables below, with its reason.
"""

import warnings

import numpy as np

from tests.equivalence.cases import RandomInputs
from tests.equivalence.difference import TOLERANCE
from tests.equivalence.edges_arrays import LAYOUTS, draw_edges, other_kinds
from tests.equivalence.edges_calls import FunctionCall, LayerCall

# Results that may share memory with an argument: the docstring says so.
SHARED = {"Dropout": "without a generator y is x itself, and dx is dy itself"}
# Layers whose backward does not use dy.
WITHOUT_GRADIENT = {"SinusoidalPositionalEncoding"}
# Functions that refuse some numbers with a ValueError, as their docstrings say.
REFUSING = {
    "normalize_by_sum": "the sum is 0",
    "cross_entropy": "the mean of no loss",
    "linear_cross_entropy": "the same",
}
# Functions that never overflow inside. Of the others, results are compared where no product of two arguments overflows.
STRICT = {"softmax", "log_softmax"}
# Where the reference multiplies a nan by 0, these leave it out.
UNUSED = {
    "MixtureOfExperts": "experts that are not selected",
    "Decoder": "the same in a model",
    "linear_attention": "later positions",
    "linear_attention_recurrent": "later positions",
    "linear_attention_chunked": "later positions",
    "LinearAttention": "later positions",
    "DeltaNet": "later positions",
    "delta_rule": "later positions",
    "delta_rule_chunked": "later positions",
    "cross_entropy": "positions that are ignored",
    "linear_cross_entropy": "the same",
}
# Functions that divide by a sum of products: of denormals, these have no digits.
QUOTIENTS = {
    "linear_attention", "linear_attention_recurrent", "linear_attention_chunked", "LinearAttention", "normalize_by_sum"
}  # fmt: skip
# Functions whose numbers are not compared at the edge.
DEMONSTRATIONS = {"softmax_naive": "it shows the overflow that softmax avoids"}


class EdgeInputs(RandomInputs):
    """A case that is run on this object is checked at the edges, `rounds` times with random edge values."""

    def __init__(self, seed, dtype, rounds=5, checks=None):
        super().__init__(seed, dtype)
        self.rounds, self.checks = rounds, checks or (check_values, check_layouts, check_kinds, check_sizes)

    def function(self, name, *arguments, **options):
        """Check a function."""
        return self._check(FunctionCall(name, arguments, options, self.dtype))

    def layer(self, name, config, *inputs, dropout=False, **options):
        """Check a layer built from the dict `config`, without dropout."""
        return self._check(LayerCall(name, config, inputs, options, self.dtype, self.rng))

    def _check(self, call):
        for check in self.checks:
            for _ in range(self.rounds if check is check_values else 1):
                check(call, self.rng)
        return []


def check_values(call, rng):
    """With random edge values in the arguments, each result is PyTorch's, or that of a wider dtype, or a limit."""
    if call.name in DEMONSTRATIONS:
        return
    floats = [key for key in call.floats if not key.endswith("gate.weight")]  # equal scores: experts are a free choice
    arguments, what = draw_edges(call.arguments, floats, rng)
    where = f"{call.name}, {call.dtype}, {what}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error" if call.warns_never else "ignore")
            results = call.run(arguments, own_memory=call.name not in SHARED)
    except ValueError as error:
        assert call.name in REFUSING, f"{where}: {error!r}"
        return
    except Warning as warning:
        raise AssertionError(f"{where}: {warning!r}") from warning
    references = call.references(arguments)
    for name, result in results.items():
        _check_result(f"{where}: {name}", result, [reference[name] for reference in references], call, arguments)


def _check_result(where, result, references, call, arguments):
    """Each number of the result is close to that of one of the references."""
    assert result.dtype == call.dtype, f"{where} has dtype {result.dtype}"
    assert result.shape == references[0].shape, f"{where} has shape {result.shape}, not {references[0].shape}"
    rtol, atol = TOLERANCE[call.dtype]
    with np.errstate(all="ignore"):
        size = np.fmax(1.0, np.abs(arguments["dy 0"])) if call.is_elementwise else _largest(arguments)
        size = np.where(np.isfinite(size), size, 1.0)
        rounding = np.abs(references[0] - references[1])  # of PyTorch itself
        rounding = np.where(np.isfinite(rounding), rounding, 0)
        if not call.is_elementwise and rounding.ndim:
            rounding = rounding.max(axis=-1, keepdims=True, initial=0)
        right = np.zeros(result.shape, bool)
        for reference in references:
            reference = reference.astype(call.dtype).astype(np.float64)  # beyond the largest number: inf
            tolerance = call.loosen * (rtol * np.abs(reference) + atol * size) + 30 * rounding
            near = np.abs(result - reference) <= np.where(np.isfinite(reference), tolerance, 0)
            right |= near | (result == reference) | (np.isnan(result) & np.isnan(reference))
        if not call.is_elementwise and call.name not in STRICT:
            if _may_overflow(arguments, call.dtype) or call.name in QUOTIENTS and _may_underflow(arguments, call.dtype):
                return
            if not _all_finite(arguments):  # nan may come from 0 · inf, which the reference leaves out elsewhere
                right |= ~np.isfinite(result)
        if call.is_elementwise:
            right |= np.isnan(result) & np.isnan(next(iter(call.floats_of(arguments))))
            right |= np.isinf(result) & np.isinf(arguments["dy 0"])  # PyTorch's derivative may be 0 by underflow
        if call.name in UNUSED:
            right |= np.isfinite(result) & np.isnan(references[1])
    if not right.all():
        index = tuple(np.argwhere(~right)[0])
        found = ", ".join(str(reference[index]) for reference in references)
        raise AssertionError(f"{where}{list(map(int, index))} is {result[index]}; the references give {found}")


def check_layouts(call, rng):
    """Each array argument in each layout gives the same results, as new plain arrays; nothing is written to."""
    for key, array in call.arrays.items():
        if key.startswith("parameter"):
            continue
        for name, lay_out in LAYOUTS.items():
            odd = lay_out(array)
            if odd is None:
                continue
            where = f"{call.name}, {call.dtype}, {key} {name}"
            plain = np.array(odd, array.dtype)
            before = odd.tobytes() if isinstance(odd, np.ndarray) else None
            results = call.run(call.arguments | {key: odd}, own_memory=call.name not in SHARED)
            assert before is None or odd.tobytes() == before, f"{where}: the argument was written to"
            expected = call.run(call.arguments | {key: plain}, own_memory=False)
            rtol, atol = TOLERANCE[call.dtype]
            for result_name, result in results.items():
                scale = max(1.0, np.abs(expected[result_name]).max(initial=0.0))
                np.testing.assert_allclose(
                    result, expected[result_name], rtol, atol * scale, err_msg=f"{where}: {result_name}"
                )


def check_kinds(call, rng):
    """A masked array, and an array whose dtype does not fit, raise a TypeError that names the argument."""
    for key, array in call.arrays.items():
        if key.startswith("parameter") or call.name in WITHOUT_GRADIENT:
            continue
        for what, odd in other_kinds(array):
            if (key, what) in {("attn_mask", "bool"), ("frequencies", "integers")}:
                continue  # it may be
            where = f"{call.name}, {call.dtype}: {key} as {what}"
            try:
                call.run(call.arguments | {key: odd}, own_memory=False)
            except TypeError as error:
                named = key.startswith("input") or key.split()[0] in str(error)
                assert named and "must" in str(error), f"{where}: {error!r}"
            except Exception as error:
                raise AssertionError(f"{where}: {error!r}") from error
            else:
                raise AssertionError(f"{where} is accepted")


def check_sizes(call, rng):
    """Leading axes of size 0 and 1 give what PyTorch gives."""
    for size in (0, 1):
        arguments = call.resized(size)
        if arguments is None:
            return
        where = f"{call.name}, {call.dtype}, leading axis of size {size}"
        with warnings.catch_warnings():
            warnings.simplefilter("error" if call.warns_never else "ignore")
            try:
                results = call.run(arguments, own_memory=call.name not in SHARED)
            except ValueError as error:
                assert call.name in REFUSING, f"{where}: {error!r}"
                return
        try:
            references = call.references(arguments)
        except RuntimeError:  # PyTorch refuses this size
            return
        for name, result in results.items():
            _check_result(f"{where}: {name}", result, [reference[name] for reference in references], call, arguments)


def _may_underflow(arguments, dtype):
    """Whether a product of two of the numbers may be denormal."""
    arrays = [item for item in arguments.values() if isinstance(item, np.ndarray) and item.dtype.kind == "f"]
    return any(bool(((np.abs(a) < 100 * float(np.sqrt(np.finfo(dtype).tiny))) & (a != 0)).any()) for a in arrays)


def _largest(arguments):
    """The largest finite magnitude, at least 1: rounding errors of sums of products are relative to it."""
    arrays = [item for item in arguments.values() if isinstance(item, np.ndarray) and item.dtype.kind == "f"]
    return max(1.0, *(float(np.abs(array[np.isfinite(array)]).max(initial=0.0)) for array in arrays))


def _all_finite(arguments):
    """Whether no number is nan or infinite."""
    arrays = [item for item in arguments.values() if isinstance(item, np.ndarray) and item.dtype.kind == "f"]
    return all(np.isfinite(array).all() for array in arrays)


def _may_overflow(arguments, dtype):
    """Whether a product of two of the numbers is beyond the largest number."""
    arrays = [item for item in arguments.values() if isinstance(item, np.ndarray) and item.dtype.kind == "f"]
    return any(bool((np.abs(array) > float(np.sqrt(np.finfo(dtype).max)) / 100).any()) for array in arrays)

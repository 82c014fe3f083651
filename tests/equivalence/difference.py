"""How far an array is from a PyTorch tensor, in units of the tolerance."""

from dataclasses import dataclass

import numpy as np

# relative and absolute tolerance; see `difference`
TOLERANCE = {np.dtype(np.float64): (1e-10, 1e-12), np.dtype(np.float32): (1e-5, 1e-6)}


@dataclass(frozen=True)
class Difference:
    """The difference of one array from its reference."""

    what: str  # "output", "gradient of q", "gradient of parameter W_query.weight"
    error: float  # the largest absolute difference
    tolerance_ratio: float  # the largest error divided by the tolerance; above 1 is out of tolerance


def difference(what, array, reference, dtype, loosen=1.0):
    """The Difference of an array and a tensor; raises AssertionError where shape or dtype differ.

    Allowed is |a − b| ≤ loosen · (rtol |b| + atol · scale), with scale = max(1, largest |b|): the rounding error of
    a sum follows the size of its terms, not that of its result.
    """
    reference = reference.detach().numpy()
    assert isinstance(array, (np.ndarray, np.generic)), f"{what} is {type(array).__name__}; it must be an array"
    assert array.dtype == dtype, f"{what} is {array.dtype}; it must be {dtype}"
    assert reference.dtype == dtype, f"{what} of the reference is {reference.dtype}; it must be {dtype}"
    assert array.shape == reference.shape, f"{what} has shape {array.shape}; the reference has {reference.shape}"
    rtol, atol = TOLERANCE[dtype]
    finite = np.abs(reference[np.isfinite(reference)])
    scale = max(1.0, float(finite.max(initial=0.0)))
    same = (array == reference) | (np.isnan(array) & np.isnan(reference))  # infinities and nan included
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(array.astype(np.float64) - reference))
        ratio = np.where(same, 0.0, error / (loosen * (rtol * np.abs(reference) + atol * scale)))
    error, ratio = (np.where(np.isnan(x), np.inf, x) for x in (error, ratio))
    return Difference(what, float(error.max(initial=0.0)), float(ratio.max(initial=0.0)))


def output_differences(arrays, references, dtype, loosen):
    """The Differences of an output, or of each of a tuple of outputs."""
    pairs = list(zip(as_tuple(arrays), as_tuple(references), strict=True))
    names = ["output"] if len(pairs) == 1 else [f"output {number}" for number in range(len(pairs))]
    return [difference(name, array, tensor, dtype, loosen) for name, (array, tensor) in zip(names, pairs)]


def assert_within_tolerance(name, differences):
    """Raise AssertionError if one of the Differences is out of tolerance; it lists all that are."""
    wrong = [d for d in differences if not d.tolerance_ratio <= 1.0]
    lines = [f"{d.what}: largest difference {d.error:.3g}, {d.tolerance_ratio:.3g} times the tolerance" for d in wrong]
    assert not wrong, f"{name} differs from PyTorch\n  " + "\n  ".join(lines)


def as_tuple(value):
    """One value or several, as a tuple."""
    return value if isinstance(value, tuple) else (value,)

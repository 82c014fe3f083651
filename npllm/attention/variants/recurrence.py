"""What linear attention and DeltaNet share: a state that is carried from position to position, and the checks.

Loops over positions use views with the time axis first, so that x[t] is position t of every sequence and head.
"""

import numpy as np
from numpy.typing import DTypeLike

from npllm.attention.masks import as_positions, document_starts
from npllm.core.checks import as_floats, check_given, check_gradient, reject_half


def initial_state(state: np.ndarray | None, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The state before the first position, (..., D, E): the given one, or zeros."""
    shape = (*k.shape[:-2], k.shape[-1], v.shape[-1])
    if state is None:
        return np.zeros(shape, k.dtype)
    if state.shape != shape:
        raise ValueError(f"state has shape {state.shape}; it must be {shape}")
    return state


def last_state_gradient(dstate: np.ndarray | None, state: np.ndarray) -> np.ndarray:
    """The gradient of the last state; zeros for None."""
    return np.zeros_like(state) if dstate is None else check_gradient(dstate, state.shape, state.dtype)


def keep_factors(document_ids: np.ndarray | None, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """The factor of the previous state: 1 within a document, 0 where one starts      (..., T) → (T, ..., 1, 1)

    `shape` is (..., T), to which the ids broadcast. The factor of the first position is 1: a state that is given
    belongs to the first document.
    """
    if document_ids is None:
        return np.ones((shape[-1], *[1] * (len(shape) + 1)), dtype)
    check_document_ids(document_ids, shape)
    starts = document_starts(document_ids)
    starts[..., :1] = False
    keep = np.moveaxis((~starts).astype(dtype), -1, 0)
    axes = [1] * (len(shape) - keep.ndim)
    return keep.reshape(len(keep), *axes, *keep.shape[1:], 1, 1)


def time_first(*arrays: np.ndarray) -> list[np.ndarray]:
    """Views with the time axis first: (..., T, D) → (T, ..., D)."""
    return [np.moveaxis(x, -2, 0) for x in arrays]


def time_last(x: np.ndarray) -> np.ndarray:
    """Undo time_first: (T, ..., D) → (..., T, D)."""
    return np.moveaxis(x, 0, -2)


def vector_times(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """xᵀ M: (..., D), (..., D, E) → (..., E)."""
    return (x[..., None, :] @ matrix)[..., 0, :]


def outer(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x yᵀ: (..., D), (..., E) → (..., D, E)."""
    return x[..., :, None] * y[..., None, :]


def check_qkv(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> None:
    """Raise ValueError unless q and k have one shape, and v one value for each of their positions."""
    if q.ndim < 2 or q.shape != k.shape or q.shape[:-1] != v.shape[:-1]:
        raise ValueError(f"q {q.shape}, k {k.shape}, v {v.shape}: they must be (..., T, D), (..., T, D), (..., T, E)")
    reject_half(q)


def check_document_ids(document_ids: np.ndarray | None, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless document_ids, if there are any, broadcast to the shape (..., T)."""
    if document_ids is None:
        return
    found = as_positions("document_ids", document_ids).shape
    try:
        fits = found[-1:] == shape[-1:] and np.broadcast_shapes(found, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"document_ids has shape {found}; it must have one id for each position, {shape}")


def check_delta_rule_inputs(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, beta: np.ndarray, state: np.ndarray | None
) -> tuple[np.ndarray, ...]:
    """The arguments of the rule as arrays of one dtype; raise ValueError for shapes that do not fit."""
    check_given(q=q, k=k, v=v, beta=beta)
    q, k, v, beta, state = as_floats(q=q, k=k, v=v, beta=beta, state=state)
    check_qkv(q, k, v)
    if beta.shape != q.shape[:-1]:
        raise ValueError(f"beta has shape {beta.shape}; it must have one number for each position, {q.shape[:-1]}")
    return q, k, v, beta, state

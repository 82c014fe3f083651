"""The same formula on blocks of rows: the temporary arrays of a block stay in the processor's cache.

    y = formula(x)                one pass over all of x for each operation; every temporary goes through main memory
    y = map_rows(formula, x)      y[i:j] = formula(x[i:j]) for each block of rows i:j, the blocks dealt out to threads

A formula of ten operations on an array of 25 MB reads and writes main memory ten times. On blocks of BLOCK_SIZE numbers
(1 MB in float32) it does so once, since a temporary stays in the cache, and several threads compute several
blocks at once. The formula is not changed: it must treat each row by itself. Small arrays take the first form.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from npllm.core.threads import parallel

BLOCK_SIZE = 262144  # numbers in a block at most; with smaller ones the threads wait for Python's lock more often
MIN_SIZE = 196608  # smaller arrays are one block
MIN_BLOCKS = 4  # of an array that is divided


def map_elements(formula: Callable, *arrays: np.ndarray) -> Any:
    """formula(*arrays) for a formula that treats each number by itself      (...), (...) → (...)

    The arrays must have one shape. The formula returns an array of this shape, or a tuple of them.
    """
    if arrays[0].size < MIN_SIZE:
        return formula(*arrays)
    shape = arrays[0].shape
    results = _map_blocks(formula, [array.reshape(-1) for array in arrays], _block_size(arrays[0].size))
    return _each(results, lambda result: result.reshape(shape))


def map_rows(formula: Callable, *arrays: np.ndarray, axis: int = -1) -> Any:
    """formula(*arrays) for a formula that treats each row, the last axis, by itself      (..., N), … → (..., M), …

    The further arrays and the results have the axes of the first one before its last axis, and then any others. If the
    formula works along another axis than −1, all is one block.
    """
    first = arrays[0]
    if first.size < MIN_SIZE or axis != -1:
        return formula(*arrays)
    leading = first.shape[:-1]
    rows = [array.reshape((-1, *array.shape[len(leading) :])) for array in arrays]
    results = _map_blocks(formula, rows, max(1, _block_size(first.size) // first.shape[-1]))
    return _each(results, lambda result: result.reshape(leading + result.shape[1:]))


def update_elements(formula: Callable, *arrays: np.ndarray) -> None:
    """formula(*arrays) for a formula that writes into its arguments and treats each number by itself

    The arrays must have one shape. Those that are not contiguous are one block.
    """
    if arrays[0].size < MIN_SIZE or not all(array.flags.c_contiguous for array in arrays):
        formula(*arrays)
        return
    flat = [array.reshape(-1) for array in arrays]
    _for_each_block(formula, flat, _block_size(len(flat[0])))


def update_rows(formula: Callable, *arrays: np.ndarray, axis: int = -1) -> list[Any]:
    """[formula(*block) for each block] for a formula that writes into its arguments and treats each row by itself

    What the formula returns for each block, such as sums over its rows, is returned in order. The arrays have the axes
    of the first one before its last axis, and then any others; those that are written are C-contiguous. If the formula
    works along another axis than −1, all is one block.
    """
    first = arrays[0]
    if first.size < MIN_SIZE or axis != -1:
        return [formula(*arrays)]
    rows = [array.reshape((-1, *array.shape[first.ndim - 1 :])) for array in arrays]
    return _for_each_block(formula, rows, max(1, _block_size(first.size) // first.shape[-1]))


def for_each_block(formula: Callable[[np.ndarray], Any], arrays: list[np.ndarray]) -> list[Any]:
    """[formula(block) for each block of each array, flattened]: one call deals out the blocks of all arrays

    An array that is not contiguous is one block, with the shape that it has.
    """
    blocks = [block for array in arrays for block in _flat_blocks(array)]
    if sum(array.size for array in arrays) < MIN_SIZE:
        return [formula(block) for block in blocks]
    return parallel(formula, blocks)


def _flat_blocks(array: np.ndarray) -> list[np.ndarray]:
    if not array.flags.c_contiguous:
        return [array]
    flat = array.reshape(-1)
    return [flat[start : start + BLOCK_SIZE] for start in range(0, len(flat), BLOCK_SIZE)]


def _block_size(size: int) -> int:
    """The numbers in a block of an array of this size. It does not depend on the threads, nor do the sums of blocks."""
    return min(BLOCK_SIZE, -(-size // MIN_BLOCKS))


def _for_each_block(formula: Callable, arrays: list[np.ndarray], step: int) -> list[Any]:
    starts = range(0, len(arrays[0]), step)
    return parallel(lambda start: formula(*(array[start : start + step] for array in arrays)), starts)


def _map_blocks(formula: Callable, arrays: list[np.ndarray], step: int) -> Any:
    """The formula on arrays[:][i : i + step]; the results of the blocks put together."""
    count = len(arrays[0])
    outs: list[np.ndarray] = []  # allocated by the block that is finished first: it knows shapes and dtypes
    is_tuple = False
    allocating = threading.Lock()

    def run(start: int) -> None:
        nonlocal is_tuple
        results = formula(*(array[start : start + step] for array in arrays))
        parts = results if isinstance(results, tuple) else (results,)
        with allocating:
            is_tuple = isinstance(results, tuple)
            if not outs:
                outs.extend(np.empty((count, *part.shape[1:]), part.dtype) for part in parts)
        for out, part in zip(outs, parts):
            out[start : start + step] = part

    parallel(run, range(0, count, step))
    return tuple(outs) if is_tuple else outs[0]


def _each(results: Any, function: Callable) -> Any:
    return tuple(map(function, results)) if isinstance(results, tuple) else function(results)

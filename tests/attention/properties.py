"""Properties of every attention layer that takes a kv_cache and document ids; each is checked on any such layer."""

import numpy as np

from npllm.core.gradient_check import check_layer_gradients

CLOSE = {np.dtype(np.float64): {"rtol": 1e-9, "atol": 1e-10}, np.dtype(np.float32): {"rtol": 2e-3, "atol": 2e-4}}


def randomize(layer, rng):
    """Change every parameter at random: the ones of a norm hide errors."""
    for _, parameter in layer.named_parameters():
        parameter.data += (0.3 * rng.standard_normal(parameter.shape)).astype(parameter.data.dtype)
    return layer


def documents_of(rng, *shape):
    """Document ids, each of some consecutive positions; an id may occur again."""
    changes = rng.random(shape) < 0.4
    return np.cumsum(changes, axis=-1) % 3


def check_finite_differences(layer, x, rng, document_ids=None):
    """The gradients of the input and of every parameter equal finite differences."""
    randomize(layer, rng)
    check_layer_gradients(layer, [x], rng, lambda: _forward(layer, x, document_ids))


def _forward(layer, x, document_ids):
    return layer.forward(x, rng=np.random.default_rng(1), document_ids=document_ids)


def check_later_tokens_change_nothing(layer, x, j):
    """Another input at j does not change the outputs before j, up to rounding, and changes that at j."""
    before = layer(x)
    other = x.copy()
    other[..., j, :] = other[..., j, ::-1] * 3 + 1
    after = layer(other)
    np.testing.assert_allclose(after[..., :j, :], before[..., :j, :], **CLOSE[x.dtype])
    assert (after[..., j, :] != before[..., j, :]).any()


def check_chunks(layer, x, rng, kv_cache=None):
    """A sequence processed in random chunks with a kv_cache has the same outputs as at once."""
    kv_cache = layer.new_kv_cache(len(x)) if kv_cache is None else kv_cache
    np.testing.assert_allclose(in_chunks(layer, x, kv_cache, rng), layer(x), **CLOSE[x.dtype])
    assert kv_cache.length == x.shape[-2]


def check_padding(layer, x, rng):
    """Padding columns change nothing: each sequence has the outputs that it has alone."""
    length = x.shape[-2]
    left_padding = rng.integers(0, length, len(x))
    y = in_chunks(layer, x, layer.new_kv_cache(len(x), left_padding), rng)
    for row, filled, values in zip(x, left_padding, y):
        np.testing.assert_allclose(values[filled:], layer(row[filled:]), **CLOSE[x.dtype])


def check_packed(layer, x, document_ids, rng):
    """Documents packed into one sequence have the outputs and gradients that each has alone."""
    y, cache = layer.forward(x, document_ids=document_ids)
    np.testing.assert_array_equal(layer(x, document_ids=document_ids), y)
    dy = rng.standard_normal(y.shape).astype(y.dtype)
    layer.zero_grad()
    dx = layer.backward(dy, cache)
    packed = {name: parameter.grad for name, parameter in layer.named_parameters()}
    layer.zero_grad()
    for row in range(len(x)):
        begins = [0, *(np.flatnonzero(np.diff(document_ids[row])) + 1), x.shape[-2]]
        for start, stop in zip(begins, begins[1:]):
            here = (row, slice(start, stop))
            alone, cache = layer.forward(x[here])
            np.testing.assert_allclose(y[here], alone, **CLOSE[x.dtype])
            np.testing.assert_allclose(dx[here], layer.backward(dy[here], cache), **CLOSE[x.dtype])
    for name, parameter in layer.named_parameters():
        np.testing.assert_allclose(packed[name], parameter.grad, **CLOSE[x.dtype], err_msg=name)


def in_chunks(layer, x, kv_cache, rng):
    """The outputs of a sequence that is processed in random chunks."""
    values, start = [], 0
    while start < x.shape[-2]:
        stop = start + int(rng.integers(1, 4))
        values.append(layer(x[..., start:stop, :], kv_cache=kv_cache))
        assert values[-1].dtype == x.dtype
        start = stop
    return np.concatenate(values, axis=-2)

"""Laws that every attention layer obeys which packs documents and has a past; each is checked on any such layer."""

import numpy as np

from npllm.core.gradient_check import check_layer_gradients

CLOSE = {np.dtype(np.float64): {"rtol": 1e-9, "atol": 1e-10}, np.dtype(np.float32): {"rtol": 2e-3, "atol": 2e-4}}


def away_from_the_start(layer, rng):
    """Move every parameter at random: a norm's ones hide errors."""
    for _, parameter in layer.named_parameters():
        parameter.data += (0.3 * rng.standard_normal(parameter.shape)).astype(parameter.data.dtype)
    return layer


def documents_of(rng, *shape):
    """Numbers of documents, each of some positions in a row; numbers may come back."""
    changes = rng.random(shape) < 0.4
    return np.cumsum(changes, axis=-1) % 3


def check_finite_differences(layer, x, rng, document_ids=None):
    """The gradients of the input and of every parameter are what differences say."""
    away_from_the_start(layer, rng)
    check_layer_gradients(layer, [x], rng, lambda: layer.forward(x, np.random.default_rng(1), document_ids))


def check_later_tokens_change_nothing(layer, x, j):
    """Another token at j leaves what stands before j as it was, up to rounding, and changes j itself."""
    before = layer(x)
    other = x.copy()
    other[..., j, :] = other[..., j, ::-1] * 3 + 1
    after = layer(other)
    np.testing.assert_allclose(after[..., :j, :], before[..., :j, :], **CLOSE[x.dtype])
    assert (after[..., j, :] != before[..., j, :]).any()


def check_pieces(layer, x, rng, kv_cache=None):
    """Reading a text in random pieces with a past is reading it at once."""
    kv_cache = layer.new_kv_cache(len(x)) if kv_cache is None else kv_cache
    np.testing.assert_allclose(in_pieces(layer, x, kv_cache, rng), layer(x), **CLOSE[x.dtype])
    assert kv_cache.length == x.shape[-2]


def check_padding(layer, x, rng):
    """What stands in the columns of filling changes nothing behind them: each row is as if it were read alone."""
    length = x.shape[-2]
    left_padding = rng.integers(0, length, len(x))
    y = in_pieces(layer, x, layer.new_kv_cache(len(x), left_padding), rng)
    for row, filled, values in zip(x, left_padding, y):
        np.testing.assert_allclose(values[filled:], layer(row[filled:]), **CLOSE[x.dtype])


def check_packed(layer, x, document_ids, rng):
    """Documents packed in a row have the values and the gradients that they have when each stands alone."""
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


def in_pieces(layer, x, kv_cache, rng):
    """The values of a text that is read in random pieces."""
    values, start = [], 0
    while start < x.shape[-2]:
        stop = start + int(rng.integers(1, 4))
        values.append(layer(x[..., start:stop, :], kv_cache))
        assert values[-1].dtype == x.dtype
        start = stop
    return np.concatenate(values, axis=-2)

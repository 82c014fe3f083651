"""Laws that every layer of the wider attention family must obey."""

import numpy as np

from tests.finite_differences import check_gradients


def check_layer_gradients(layer, x, *, rng_seed=1, **options):
    """Finite differences of the input and of every parameter, with dropout drawn alike each time."""
    rng = np.random.default_rng(0)

    def run(*_):
        return layer.forward(x, np.random.default_rng(rng_seed), **options)

    y, cache = run()
    dy = rng.standard_normal(y.shape)
    dx = layer.backward(dy, cache)
    parameters = [parameter for _, parameter in layer.named_parameters()]
    check_gradients(
        lambda *_: (run()[0] * dy).sum(),
        [x, *(parameter.data for parameter in parameters)],
        [dx, *(parameter.grad for parameter in parameters)],
        rng,
    )


def read_in_pieces(layer, x, rng):
    """A text read in pieces of random lengths with a past gives what it gives at once."""
    past, start, pieces = layer.start_past(len(x)), 0, []
    while start < x.shape[1]:
        end = min(start + int(rng.integers(1, 5)), x.shape[1])
        pieces.append(layer(x[:, start:end], past))
        start = end
    assert past.length == x.shape[1]
    y = np.concatenate(pieces, axis=1)
    assert y.dtype == x.dtype
    tolerance = 1e-4 if x.dtype == np.float32 else 1e-9
    expected = layer(x)
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance * max(1.0, np.abs(expected).max()))


def check_packed_is_separate(layer, rng):
    """Documents in one row give the values and the gradients that they give one by one."""
    lengths = rng.integers(1, 4, 3)
    documents = np.repeat([7, 3, 7], lengths)  # a number that comes back is another document
    width = layer.q_proj.weight.shape[1]
    x, dy = rng.standard_normal((2, 2, lengths.sum(), width))
    y, cache = layer.forward(x, documents=documents)
    dx = layer.backward(dy, cache)
    together = {name: parameter.grad for name, parameter in layer.named_parameters()}
    layer.zero_grad()
    ends = np.cumsum(lengths)
    for start, end in zip(ends - lengths, ends):
        one, cache = layer.forward(x[:, start:end])
        np.testing.assert_allclose(y[:, start:end], one, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(dx[:, start:end], layer.backward(dy[:, start:end], cache), rtol=1e-8, atol=1e-10)
    for name, parameter in layer.named_parameters():
        np.testing.assert_allclose(together[name], parameter.grad, rtol=1e-8, atol=1e-10)

import numpy as np

from npllm.functional import Cache
from npllm.models import TransformerBlock


def test_arrays_walks_nested_caches_and_lists_by_name():
    x = np.zeros((2, 3))
    cache = Cache(x=x, scale=2.0, heads=[Cache(y=x), Cache(y=np.ones(4))], attn=Cache(weights=x))
    assert [name for name, _ in cache.arrays()] == ["x", "heads.0.y", "heads.1.y", "attn.weights"]


def test_nbytes_counts_an_array_once():
    x = np.zeros((2, 3))
    assert Cache(x=x, also=x, y=np.zeros(1)).nbytes == 7 * 8


def test_a_models_cache_shows_every_step():
    block = TransformerBlock(8, 4, 0.0, 2, rng=np.random.default_rng(0))
    _, cache = block.forward(np.random.default_rng(1).standard_normal((3, 8), np.float32))
    names = {name for name, _ in cache.arrays()}
    assert {"attn.attention.weights", "attn.attention.q", "mlp.activation.x", "ln_1.normalized"} <= names
    assert cache.attn.attention.weights.shape == (2, 3, 3)


def test_the_representation_shows_names_shapes_and_dtypes():
    x = np.zeros((2, 3), np.float32)
    cache = Cache(x=x, axis=-1, heads=[Cache(y=x), Cache(y=np.ones(4))], attn=Cache(weights=x), names=["a", "b"])
    assert repr(cache).split("\n") == [
        "Cache(",
        "  x: (2, 3) float32",
        "  axis: -1",
        "  heads:",
        "    0:",
        "      y: (2, 3) float32",
        "    1:",
        "      y: (4,) float64",
        "  attn:",
        "    weights: (2, 3) float32",
        "  names: ['a', 'b']",
        ")",
    ]
    assert repr(Cache()) == "Cache()"

import numpy as np
import pytest

from npllm.attention import GroupedQueryAttention, ShawAttention
from tests.equivalence import implementation

NAME = "ShawAttention"
pytestmark = pytest.mark.covers(NAME)


def build(seed=0, **changes):
    """A float64 layer."""
    config = {"d_model": 6, "context_length": 9, "dropout": 0.0, "num_heads": 2, "max_distance": 3} | changes
    return implementation(NAME)(**config, rng=np.random.default_rng(seed), dtype="float64")


def test_zero_tables_are_plain_attention():
    layer = build()
    layer.key_table.data[...] = layer.value_table.data[...] = 0
    plain = GroupedQueryAttention(6, 9, 0.0, 2, dtype="float64")
    plain.load_state_dict({name: a for name, a in layer.state_dict().items() if not name.endswith("table")})
    x = np.random.default_rng(0).standard_normal((2, 7, 6))
    np.testing.assert_allclose(layer(x), plain(x), rtol=1e-10, atol=1e-12)


def test_distances_from_max_distance_on_have_the_same_vectors():
    """Exchanging two tokens at such distances changes nothing; exchanging two nearer ones does."""
    layer = build(max_distance=2)
    x = np.random.default_rng(0).standard_normal((7, 6))
    swapped_far, swapped_near = x.copy(), x.copy()
    swapped_far[[0, 1]], swapped_near[[4, 5]] = x[[1, 0]], x[[5, 4]]
    np.testing.assert_allclose(layer(swapped_far)[6], layer(x)[6], rtol=1e-12)
    assert np.abs(layer(swapped_near)[6] - layer(x)[6]).max() > 1e-3


def test_invalid_arguments():
    with pytest.raises(ValueError, match="num_heads must divide d_model"):
        ShawAttention(6, 9, 0.0, 4)
    with pytest.raises(ValueError, match="max_distance is 0"):
        ShawAttention(6, 9, 0.0, 2, 0)

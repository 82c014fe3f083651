import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.attention import GroupedQueryAttention, ShawAttention
from tests.attention import laws
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, seeds, sizes

NAME = "ShawAttention"
pytestmark = pytest.mark.covers(NAME)


@st.composite
def configs(draw):
    """Constructor arguments."""
    heads = draw(st.integers(1, 3))
    return {"d_model": heads * draw(sizes), "context_length": 9, "dropout": 0.2, "num_heads": heads,
            "max_distance": draw(st.integers(1, 5))}  # fmt: skip


def build(seed=0, **changes):
    """A float64 layer."""
    config = {"d_model": 6, "context_length": 9, "dropout": 0.0, "num_heads": 2, "max_distance": 3} | changes
    return implementation(NAME)(**config, rng=np.random.default_rng(seed), dtype="float64")


@given(st.data(), configs(), dtypes, leading, sizes, st.booleans())
def test_equals_pytorch(data, config, dtype, batch, T, dropout):
    x = data.draw(arrays((*batch, T, config["d_model"]), dtype))
    check_layer(NAME, config, x, dtype=dtype, dropout=dropout, loosen=4.0)


@given(st.data(), configs(), dtypes, sizes, seeds)
def test_equals_pytorch_on_packed_documents(data, config, dtype, T, seed):
    x = data.draw(arrays((2, T, config["d_model"]), dtype))
    document_ids = np.sort(np.random.default_rng(seed).integers(0, 3, (2, T)), axis=-1)
    check_layer(NAME, config, x, dtype=dtype, document_ids=document_ids, loosen=4.0)


def test_finite_differences():
    rng = np.random.default_rng(1)
    laws.check_finite_differences(build(dropout=0.2), rng.standard_normal((2, 6, 6)), rng)


def test_zero_tables_are_plain_attention():
    layer = build()
    layer.key_table.data[...] = layer.value_table.data[...] = 0
    plain = GroupedQueryAttention(6, 9, 0.0, 2, dtype="float64")
    plain.load_state_dict({name: a for name, a in layer.state_dict().items() if not name.endswith("table")})
    x = np.random.default_rng(0).standard_normal((2, 7, 6))
    np.testing.assert_allclose(layer(x), plain(x), rtol=1e-10, atol=1e-12)


def test_far_positions_look_alike_near_ones_do_not():
    """Of two equal tokens before the window of distances it does not matter which one changes place."""
    layer = build(max_distance=2)
    x = np.random.default_rng(0).standard_normal((7, 6))
    swapped_far, swapped_near = x.copy(), x.copy()
    swapped_far[[0, 1]], swapped_near[[4, 5]] = x[[1, 0]], x[[5, 4]]
    np.testing.assert_allclose(layer(swapped_far)[6], layer(x)[6], rtol=1e-12)
    assert np.abs(layer(swapped_near)[6] - layer(x)[6]).max() > 1e-3


@given(st.integers(1, 9), seeds)
def test_read_in_pieces_equals_read_at_once(T, seed):
    rng = np.random.default_rng(seed)
    laws.check_chunks(build(seed), rng.standard_normal((2, T, 6)), rng)


@given(seeds)
def test_filling_before_a_prompt_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    laws.check_padding(build(seed), rng.standard_normal((3, 6, 6)), rng)


@given(seeds)
def test_packed_equals_separate(seed):
    rng = np.random.default_rng(seed)
    laws.check_packed(build(seed), rng.standard_normal((2, 7, 6)), laws.documents_of(rng, 2, 7), rng)


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_heads must divide d_model"):
        ShawAttention(6, 9, 0.0, 4)
    with pytest.raises(ValueError, match="max_distance is 0"):
        ShawAttention(6, 9, 0.0, 2, 0)
    with pytest.raises(ValueError, match="the sequence has 10 positions"):
        build()(np.zeros((10, 6)))
    with pytest.raises(ValueError, match="document_ids and kv_cache are both set"):
        build()(np.zeros((1, 2, 6)), build().new_kv_cache(), np.zeros(2, int))

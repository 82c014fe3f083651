import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm.attention import DeltaNet
from tests.attention import laws
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, sizes

pytestmark = pytest.mark.covers("DeltaNet")
chunks = st.sampled_from([1, 2, 3, 64])

# Where a query is nearly orthogonal to all that was written, its answer is a small difference of large terms, and the
# norm behind it makes that large again, with its rounding: in float32 three digits may go, in float64 nobody sees it.
NORM = {np.dtype(np.float32): 1000.0, np.dtype(np.float64): 100.0}


def build(num_heads, width, chunk=64, dtype="float64"):
    config = {"d_model": num_heads * width, "context_length": 7, "num_heads": num_heads, "chunk": chunk}
    return implementation("DeltaNet")(**config, rng=np.random.default_rng(0), dtype=dtype)


@given(st.data(), dtypes, leading, sizes, st.integers(1, 3), sizes, chunks, st.booleans())
def test_equals_pytorch(data, dtype, batch, T, num_heads, width, chunk, packed):
    config = {"d_model": num_heads * width, "context_length": 7, "num_heads": num_heads, "chunk": chunk}
    x = data.draw(arrays((*batch, T, num_heads * width), dtype))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    document_ids = laws.documents_of(rng, *batch, T) if packed else None
    check_layer("DeltaNet", config, x, dtype=dtype, document_ids=document_ids, loosen=NORM[dtype])


@pytest.mark.parametrize("document_ids", [None, np.array([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])])
def test_finite_differences(document_ids):
    rng = np.random.default_rng(0)
    laws.check_finite_differences(build(2, 3, chunk=2), rng.standard_normal((2, 5, 6)), rng, document_ids)


@given(st.data(), st.integers(1, 3), sizes, sizes, chunks)
def test_laws(data, batch, T, width, chunk):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    layer = laws.randomize(build(2, width, chunk), rng)
    x = rng.standard_normal((batch, T, 2 * width))
    laws.check_later_tokens_change_nothing(layer, x, int(rng.integers(T)))
    laws.check_chunks(layer, x, rng)
    laws.check_padding(layer, x, rng)
    laws.check_packed(layer, x, laws.documents_of(rng, batch, T), rng)


def test_transformers_rule_between_the_projections():
    from transformers.models.qwen3_next.modeling_qwen3_next import torch_recurrent_gated_delta_rule

    rng = np.random.default_rng(0)
    layer = laws.randomize(build(2, 4, chunk=3, dtype="float32"), rng)
    x = rng.standard_normal((2, 7, 8)).astype(np.float32)
    weights = {name: torch.from_numpy(array) for name, array in layer.state_dict().items()}
    project = {name: torch.from_numpy(x) @ weights[f"{name}_proj.weight"].T for name in "qkvb"}
    q, k, v = (project[name].unflatten(-1, (2, 4)) for name in "qkv")
    rate = project["b"].sigmoid()
    no_gate = torch.zeros_like(rate)
    context, _ = torch_recurrent_gated_delta_rule(q, k, v, no_gate, rate, use_qk_l2norm_in_kernel=True)
    context = context * 4**0.5  # theirs divides queries by √D; behind the norm only eps would tell
    normalized = torch.nn.functional.rms_norm(context, (4,), weights["o_norm.weight"], eps=1e-6)
    expected = normalized.flatten(-2) @ weights["o_proj.weight"].T
    np.testing.assert_allclose(layer(x), expected, rtol=1e-3, atol=1e-4)


def test_the_past_has_one_size():
    layer, x = build(2, 4, dtype="float32"), np.random.default_rng(0).standard_normal((3, 5, 8)).astype(np.float32)
    kv_cache = layer.new_kv_cache(3)
    assert kv_cache.nbytes == 0
    for read in range(1, 50):
        layer(x, kv_cache)
        assert kv_cache.length == 5 * read
        assert kv_cache.nbytes == 3 * 2 * 4 * 4 * 4


def test_a_long_text_does_not_make_the_state_grow():
    layer, rng = build(2, 8), np.random.default_rng(0)
    kv_cache = layer.new_kv_cache()
    for _ in range(300):
        layer(rng.standard_normal((1, 7, 16)), kv_cache)
    values = layer.v_proj(rng.standard_normal((999, 16)))
    assert np.abs(kv_cache.state).max() < 3 * np.abs(values).max()


def test_reading_in_pieces_stays_in_float32():
    rng = np.random.default_rng(0)
    laws.check_chunks(build(2, 3, chunk=2, dtype="float32"), rng.standard_normal((2, 7, 6)).astype(np.float32), rng)


def test_bad_arguments():
    with pytest.raises(ValueError, match="d_model is 6 and num_heads 4; num_heads must divide d_model"):
        DeltaNet(6, 5, 4)
    with pytest.raises(ValueError, match="chunk is 0; it must be at least 1"):
        DeltaNet(6, 5, 2, 0)
    layer = DeltaNet(6, 5, 2)
    with pytest.raises(ValueError, match="has 6 positions; it must have at most 5"):
        layer(np.zeros((6, 6), np.float32))
    with pytest.raises(ValueError, match=r"document_ids has shape \(2, 4\)"):
        layer(np.zeros((2, 5, 6), np.float32), document_ids=np.zeros((2, 4), int))
    with pytest.raises(ValueError, match="document_ids and kv_cache are both set"):
        layer(np.zeros((5, 6), np.float32), layer.new_kv_cache(), np.zeros(5, int))

"""The names of tensors by model type: fused tensors are split and joined, names go there and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.weights.tensor_names import NAMES, from_hugging_face, join_rows, split_rows, to_hugging_face

CONFIG = {"num_attention_heads": 4, "num_key_value_heads": 2}


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 3), st.booleans(), st.booleans())
def test_split_and_join(counts, rows, interleaved, is_bias):
    counts = tuple(counts[:1] * len(counts) if interleaved else counts)
    shape = (sum(counts) * rows,) if is_bias else (sum(counts) * rows, 5)
    tensor = np.random.default_rng(0).standard_normal(shape)
    parts = split_rows(tensor, counts, interleaved)
    assert [len(part) for part in parts] == [count * rows for count in counts]
    np.testing.assert_array_equal(join_rows(parts, counts, interleaved), tensor)


def test_interleaved_parts_belong_to_one_head():
    """The rows of GPT-NeoX: q, k and v of head 0, then those of head 1, as its own view(…, H, 3 D) reads them."""
    tensor = np.arange(12)  # H = 2, D = 2
    q, k, v = split_rows(tensor, (2, 2, 2), interleaved=True)
    assert (q.tolist(), k.tolist(), v.tolist()) == ([0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11])


def test_rows_that_cannot_be_divided():
    tensors = {"model.layers.0.self_attn.qkv_proj.weight": np.zeros((9, 3))}
    with pytest.raises(
        ValueError, match=r"qkv_proj.weight, which has shape \(9, 3\); its number of rows must be a mul"
    ):
        from_hugging_face("f", tensors, CONFIG | {"model_type": "phi3"})


def test_two_tensors_of_one_name():
    tensors = {"model.norm.weight": np.zeros(3), "_orig_mod.norm.weight": np.zeros(3)}
    with pytest.raises(ValueError, match="f has two tensors for norm.weight, one of them _orig_mod.norm.weight"):
        from_hugging_face("f", tensors, CONFIG | {"model_type": "llama"})


@pytest.mark.parametrize("kind", ["llama", *NAMES])
def test_names_go_there_and_back(kind):
    names = ["self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.o_proj.weight"]
    names += ["input_layernorm.weight", "post_attention_layernorm.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight"]
    names += ["mlp.experts.1.gate_proj.weight"] if kind == "mixtral" else []
    names += ["self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias", "self_attn.o_proj.bias"]
    state = {f"layers.1.{name}": np.arange(8.0) + i for i, name in enumerate(names)}
    state |= {"embed_tokens.weight": np.ones(3), "norm.weight": np.zeros(3), "lm_head.weight": np.full(3, 2.0)}
    config = {"model_type": kind, "num_attention_heads": 4, "num_key_value_heads": 4}
    again = from_hugging_face("f", to_hugging_face(state, config), config)
    assert again.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


def test_buffers_of_older_files_are_left_out():
    old = ["layers.0.attention.bias", "layers.0.attention.masked_bias", "layers.0.attention.rotary_emb.inv_freq"]
    tensors = {f"gpt_neox.{name}": np.zeros(3) for name in old}
    dense = {"gpt_neox.layers.0.attention.dense.bias": np.zeros(3)}
    config = CONFIG | {"model_type": "gpt_neox"}
    assert list(from_hugging_face("f", tensors | dense, config)) == ["layers.0.self_attn.o_proj.bias"]

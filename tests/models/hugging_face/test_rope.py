"""rope_theta, rope_scaling and rope_parameters as transformers reads them."""

import json

import pytest

from npllm.attention import RoPE
from npllm.attention.variants.rope_scaling import (
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    LongRoPEScaling,
    YaRNScaling,
)
from npllm.models.hugging_face.rope import read_rope, rope_fields
from npllm.models.presets import from_pretrained
from tests.weights.published import BASE, IDS, LLAMA, compare, write_folder

NEW = {"rope_type": "default", "rope_theta": 1e6}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.2, 1.5],
    "long_factor": [2.0, 3.0, 4.0, 5.0],
    "original_max_position_embeddings": 16,
}


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral"])
def test_rope_scaling_counts_before_rope_parameters(tmp_path, kind):
    config = BASE | {"model_type": kind, "head_dim": 8, "rope_parameters": NEW}
    compare(write_folder(tmp_path, config | {"rope_scaling": YARN | {"rope_theta": 1e6}}))


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_parameters": NEW, "rope_scaling": None},
        {"rope_parameters": NEW, "rope_scaling": {}},
        {"rope_parameters": NEW, "rope_scaling": {"factor": 2.0, "type": "linear"}, "rope_theta": 500.0},
        {"rope_parameters": None, "rope_theta": 500.0},
        {"rope_parameters": {"rope_theta": 300.0}, "rope_theta": 500.0},
        {"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 2.0}},
        {"rope_scaling": {"type": "linear", "factor": 2}},
        {"rope_theta": 1000000},
        {"partial_rotary_factor": 0.5},  # not a field of llama
        {"rope_parameters": NEW | {"partial_rotary_factor": 0.5}},
    ],
)
def test_fields_beside_each_other(tmp_path, fields):
    compare(write_folder(tmp_path, LLAMA | fields))


@pytest.mark.parametrize("scaling", [YARN, LLAMA3, LONG])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("outside", [None, 8, 32])
def test_the_original_length_beside_the_object_counts(tmp_path, scaling, inside, outside):
    scaling = {name: value for name, value in scaling.items() if name != "original_max_position_embeddings"}
    scaling |= {"original_max_position_embeddings": 16} if inside else {}
    beside = {} if outside is None else {"original_max_position_embeddings": outside}
    compare(write_folder(tmp_path, LLAMA | beside | {"rope_scaling": scaling}))


@pytest.mark.parametrize(
    "numbers",
    [
        {"attention_factor": 1.7},
        {"attention_factor": 2},
        {"truncate": False},
        {"truncate": False, "beta_fast": 20, "beta_slow": 2},
        {"mscale": 1.0, "mscale_all_dim": 0.7},
        {"mscale": 1.0},
        {"mscale": 0.0, "mscale_all_dim": 0.0},
        {"attention_factor": None, "mscale": None, "beta_fast": None, "beta_slow": 0},
        {"factor": None},
        {"beta_fast": 1, "beta_slow": 3},
        {"original_max_position_embeddings": 4},
        {"finetuned": True},
    ],
)
def test_numbers_of_yarn(tmp_path, numbers):
    compare(write_folder(tmp_path, LLAMA | {"rope_scaling": YARN | numbers}))


@pytest.mark.parametrize("max_position_embeddings", [32, 16, 10])
def test_dynamic_ntk_depends_on_the_length_also_in_generation(tmp_path, max_position_embeddings):
    config = LLAMA | {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}
    folder = write_folder(tmp_path, config | {"max_position_embeddings": max_position_embeddings})
    compare(folder, IDS[:, :18], max_new_tokens=12)
    assert from_pretrained(folder).context_length == 2 * max_position_embeddings


@pytest.mark.parametrize(
    "numbers", [{}, {"factor": 3.0}, {"attention_factor": 1.3}, {"original_max_position_embeddings": 10}]
)
def test_longrope_has_factors_for_short_and_for_long_texts(tmp_path, numbers):
    folder = write_folder(tmp_path, LLAMA | {"rope_scaling": LONG | numbers})
    compare(folder, IDS[:, :9], max_new_tokens=12)
    compare(folder, IDS)


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ("12", 'rope_scaling "12"; it must be an object, or null'),
        (0, "rope_scaling 0; it must be an object"),
        ([1], "rope_scaling .1.; it must be an object"),
        ({"type": "mrope"}, 'has rope_scaling.type "mrope"; it must be "default" or "linear"'),
        ({"rope_type": None}, "has rope_scaling.rope_type null"),
        ({"type": "linear"}, "has no rope_scaling.factor; rope_type .linear. must have one"),
        ({"type": "linear", "factor": "2"}, 'has rope_scaling.factor "2"; it must be a finite number at least 1'),
        ({"type": "linear", "factor": True}, "has rope_scaling.factor true"),
        ({"type": "linear", "factor": 0.5}, "has rope_scaling.factor 0.5"),
        ({"type": "linear", "factor": None}, "has rope_scaling.factor null"),
        ({"type": "dynamic", "factor": float("nan")}, "has rope_scaling.factor NaN"),
        ({"type": "yarn"}, "has no rope_scaling.factor"),
        (YARN | {"truncate": 1}, "has rope_scaling.truncate 1; it must be true or false"),
        (YARN | {"original_max_position_embeddings": 0}, "has rope_scaling.original_max_position_embeddings 0"),
        (YARN | {"attention_factor": -1.0}, "has rope_scaling.attention_factor -1.0"),
        (YARN | {"rope_theta": None}, "has rope_scaling.rope_theta null"),
        (YARN | {"rope_theta": -1}, "has rope_scaling.rope_theta -1"),
        (YARN | {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 beside rope_type .yarn."),
        (
            {"rope_type": "llama3", "factor": 8.0},
            "has no rope_scaling.low_freq_factor.* It has no rope_scaling.high_freq_factor",
        ),
        (LLAMA3 | {"low_freq_factor": 4.0}, "high_freq_factor is 4.0; it must be greater than low_freq_factor"),
        (LONG | {"short_factor": [1.0]}, "short_factor has 1 numbers; it must have 4"),
        (LONG | {"long_factor": [1.0, 2.0, 0.0, 1.0]}, "has rope_scaling.long_factor .*; it must be a list"),
        (LONG | {"long_factor": "1"}, "has rope_scaling.long_factor"),
        (
            {"full_attention": {"rope_type": "default"}},
            "has an object rope_scaling.full_attention; this model_type",
        ),
    ],
)
def test_what_npllm_does_not_build_is_refused_with_file_and_field(tmp_path, scaling, message):
    write_folder(tmp_path, LLAMA)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | {"rope_scaling": scaling}))
    with pytest.raises(ValueError, match=rf"config.json.*{message}"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "scaling",
    [
        None,
        LinearScaling(2.0),
        DynamicNTKScaling(2.0, 32),
        YaRNScaling(4.0, 16),
        YaRNScaling(4.0, 16, 20.0, 2.0, 1.5, False, 0.7, 0.8),
        Llama3Scaling(8.0, 16),
        LongRoPEScaling((1.0, 1.1, 1.2, 1.5), (2.0, 3.0, 4.0, 5.0), 16, 3.0, 1.2),
    ],
)
def test_what_is_written_is_read_again(scaling):
    rope = RoPE(500.0, scaling=scaling)
    config = {"max_position_embeddings": 32, "rope_parameters": json.loads(json.dumps(rope_fields(rope)))}
    assert read_rope("config.json", config, 8) == rope

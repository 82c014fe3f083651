"""What all variants have in common: equality with PyTorch, causality, the kv_cache, padding, and packed documents."""

import dataclasses
import inspect
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import attention
from npllm.attention import MLA, Delta, Differential, LinearAttn, RoPE, Shaw
from npllm.core.config import from_dict, to_dict
from tests.attention import properties
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, sizes

CONTEXT = 9
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
CONFIGS = {  # layer: its configuration's class
    "ShawAttention": Shaw,
    "DifferentialAttention": Differential,
    "MultiHeadLatentAttention": MLA,
    "LinearAttention": LinearAttn,
    "DeltaNet": Delta,
}
OPTIONS = {
    "ShawAttention": {"max_distance": st.integers(1, 5)},
    "DifferentialAttention": {"lambda_init": st.sampled_from([0.0, 0.2, 0.8])},
    "MultiHeadLatentAttention": {
        "kv_lora_rank": sizes,
        "head_dim": sizes,
        "qk_rope_head_dim": st.sampled_from([0, 2, 4]),
        "q_lora_rank": st.sampled_from([None, 1, 5]),
        "rope": st.builds(RoPE, theta=st.just(100.0), layout=st.sampled_from(["pairs", "halves"])),
    },
    "LinearAttention": {"mode": st.sampled_from(["parallel", "recurrent"])},
    "DeltaNet": {"chunk": st.sampled_from([1, 2, 3, 64])},
}
LOOSEN = {  # times the tolerance
    "ShawAttention": {F32: 4.0, F64: 4.0},
    # λ is near 1 in some draws: two nearly equal maps leave a small difference, which the norm makes large again
    "DifferentialAttention": {F32: 300.0, F64: 30.0},
    # a norm over few channels amplifies rounding
    "MultiHeadLatentAttention": {F32: 30.0, F64: 30.0},
    "LinearAttention": {F32: 1.0, F64: 1.0},
    # where a query is nearly orthogonal to all keys, y is a small difference of large terms, and the norm makes it and
    # its rounding large again
    "DeltaNet": {F32: 1000.0, F64: 100.0},
}
each_layer = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.covers(name)) for name in CONFIGS])


@st.composite
def configs(draw, name):
    """Constructor arguments."""
    num_heads, channels = draw(st.integers(1, 3)), draw(sizes)
    config = {"d_model": num_heads * channels, "context_length": CONTEXT, "num_heads": num_heads}
    if name == "DifferentialAttention":
        config["d_model"] *= 2
    if name not in ("LinearAttention", "DeltaNet"):
        config["dropout"] = 0.2
    return config | {option: draw(values) for option, values in OPTIONS[name].items()}


def build(name, config, rng, dtype):
    return properties.randomize(implementation(name)(**config, rng=rng, dtype=dtype), rng)


def build_default(name, options=None, **arguments):
    """A layer with the defaults of its configuration, except for these options."""
    ranks = {"kv_lora_rank": 5, "head_dim": 3, "qk_rope_head_dim": 4} if name == "MultiHeadLatentAttention" else {}
    config = CONFIGS[name](num_heads=2, **ranks, **(options or {}))
    return config.build(8, CONTEXT, **{"rng": np.random.default_rng(0), "dtype": "float64"} | arguments)


@each_layer
@given(data=st.data(), dtype=dtypes, batch=leading, T=sizes, dropout=st.booleans(), packed=st.booleans())
def test_equals_pytorch(name, data, dtype, batch, T, dropout, packed):
    config = data.draw(configs(name))
    x = data.draw(arrays((*batch, T, config["d_model"]), dtype))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    document_ids = properties.documents_of(rng, *batch, T) if packed else None
    check_layer(name, config, x, dtype=dtype, dropout=dropout, document_ids=document_ids, loosen=LOOSEN[name][dtype])


@pytest.mark.parametrize("document_ids", [None, np.array([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ShawAttention", {"max_distance": 2}),
        ("DifferentialAttention", {}),
        ("MultiHeadLatentAttention", {}),
        ("MultiHeadLatentAttention", {"q_lora_rank": 4}),
        ("LinearAttention", {"mode": "parallel"}),
        ("LinearAttention", {"mode": "recurrent"}),
        ("DeltaNet", {"chunk": 2}),
    ],
)
def test_finite_differences(name, options, document_ids):
    rng, layer = np.random.default_rng(0), build_default(name, options, dropout=0.2)
    properties.check_finite_differences(layer, rng.standard_normal((2, 5, 8)), rng, document_ids)


@each_layer
@given(data=st.data(), batch=st.integers(1, 3), T=sizes, seed=st.integers(0, 999))
def test_causality_kv_cache_padding_and_documents(name, data, batch, T, seed):
    config, rng = data.draw(configs(name)), np.random.default_rng(seed)
    layer = build(name, config, rng, "float64")
    x = rng.standard_normal((batch, T, config["d_model"]))
    properties.check_later_tokens_change_nothing(layer, x, int(rng.integers(T)))
    properties.check_chunks(layer, x, rng)
    properties.check_padding(layer, x, rng)
    properties.check_packed(layer, x, properties.documents_of(rng, batch, T), rng)


@each_layer
def test_chunks_of_float32_stay_in_float32(name):
    rng, layer = np.random.default_rng(0), build_default(name, dtype="float32")
    properties.check_chunks(layer, rng.standard_normal((2, 7, 8)).astype(np.float32), rng)


@each_layer
def test_invalid_calls(name):
    layer, x = build_default(name), np.zeros((1, 5, 8))
    with pytest.raises(ValueError, match="has 10 positions; it must have at most 9"):
        layer(np.zeros((10, 8)))
    with pytest.raises(ValueError, match=r"document_ids has shape \(4,\); it must have one id for each position"):
        layer(x, document_ids=np.zeros(4, int))
    with pytest.raises(ValueError, match="document_ids and kv_cache are both set"):
        layer(x, kv_cache=layer.new_kv_cache(), document_ids=np.zeros(5, int))
    with pytest.raises(ValueError, match="the kv_cache has batch_size 1 but the input has shape"):
        layer(np.zeros((3, 5, 8)), kv_cache=layer.new_kv_cache())
    with pytest.raises(TypeError, match="positional argument"):
        layer(x, layer.new_kv_cache())


@each_layer
def test_init_weights_draws_what_the_constructor_draws(name):
    layer, blank = build_default(name), build_default(name, init=False)
    assert not any(array.any() for array in blank.state_dict().values())
    blank.init_weights(np.random.default_rng(0))
    assert all((blank.state_dict()[key] == array).all() for key, array in layer.state_dict().items())


@each_layer
def test_the_configuration_has_the_constructors_arguments_and_defaults(name):
    arguments = dict(inspect.signature(getattr(attention, name)).parameters)
    for argument in ("d_model", "context_length", "dropout", "rng", "dtype", "init"):
        arguments.pop(argument, None)
    fields = dataclasses.fields(CONFIGS[name])
    assert list(arguments) == [field.name for field in fields]
    for field in fields:
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        assert arguments[field.name].default == default, field.name


@each_layer
@given(data=st.data())
def test_the_configuration_survives_json(name, data):
    options = {option: data.draw(values) for option, values in OPTIONS[name].items()}
    config = CONFIGS[name](num_heads=2, **options)
    assert from_dict(json.loads(json.dumps(to_dict(config))), CONFIGS[name]) == config

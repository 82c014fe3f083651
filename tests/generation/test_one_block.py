import numpy as np
import pytest

from npllm.generation import complete
from npllm.generation.one_block import ALIGNMENT, move_into_one_block
from npllm.layers import Linear
from npllm.models.presets import architecture, build
from tests.models.test_gpt import small


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["gpt", "llama", "mixtral"])
def test_the_values_stay_and_the_memory_is_one_block(name, dtype):
    model = build(architecture(name, 11, 40, 12, 2, 3), rng=np.random.default_rng(0), dtype=dtype)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    logits = model(np.arange(5))
    move_into_one_block(model)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
        assert array.dtype == dtype and array.flags.c_contiguous and array.flags.writeable
    np.testing.assert_array_equal(model(np.arange(5)), logits)
    arrays = [parameter.data for _, parameter in model.named_parameters()]
    starts = [array.ctypes.data for array in arrays]
    assert starts == sorted(starts)
    for array, start, following in zip(arrays, starts, starts[1:]):
        assert 0 <= following - (start + array.nbytes) < ALIGNMENT
    assert not any(np.shares_memory(a, b) for a, b in zip(arrays, arrays[1:]))


def test_tied_weights_stay_one_array_and_the_text_stays():
    model, *_ = small()
    text = complete(model, [1, 2], 12, temperature=0)
    move_into_one_block(model)
    assert model.lm_head.weight is model.wte.weight
    assert complete(model, [1, 2], 12, temperature=0) == text


def test_parameters_of_several_dtypes_and_none():
    layer = Linear(3, 2, rng=np.random.default_rng(0))
    layer.bias.data = layer.bias.data.astype(np.float64)
    expected = {name: (array.dtype, array.tolist()) for name, array in layer.state_dict().items()}
    move_into_one_block(layer)
    assert {name: (array.dtype, array.tolist()) for name, array in layer.state_dict().items()} == expected
    move_into_one_block(build(architecture("llama", 5, 4, 4, 1, 1)).drop)
    with pytest.raises(TypeError, match="model is"):
        move_into_one_block(np.ones(3))

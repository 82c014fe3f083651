"""Every function, layer and model has a reference with the same arguments and defaults, and a case to verify."""

import inspect

import pytest

import npllm.attention
import npllm.before_transformers
import npllm.layers
import npllm.models
from npllm import functional as F
from npllm.attention.variants.options import QKNorm
from npllm.attention.variants.rope import RoPE
from npllm.core import Module
from npllm.layers import LayerNorm, RMSNorm
from npllm.models import GPTConfig
from tests.equivalence import cases, implementation, torch_reference

FUNCTIONS = sorted(name.removesuffix("_backward") for name in vars(F) if name.endswith("_backward"))
CLASSES = {
    name: item
    for module in (npllm.layers, npllm.attention, npllm.before_transformers, npllm.models)
    for name, item in vars(module).items()
    if inspect.isclass(item) and issubclass(item, Module) and item is not Module
}

# Arguments that npllm and the reference need not have in common, with the reason.
NUMPY_ONLY = {"rng", "dtype", "init"}  # PyTorch has a global generator, `.to(dtype)`, and draws its own weights
OTHER_ARGUMENTS = {
    "dropout": "the reference takes the dropout mask; npllm's function draws it or takes it by name",
}
OTHER_DEFAULTS = {
    ("MultiHeadLatentAttention", "rope"): "the reference's None means the default RoPE of npllm",
}


def arguments(function):
    """Names and defaults of a function's or constructor's arguments."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in NUMPY_ONLY}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_three_forms(name):
    value, forward = getattr(F, name), getattr(F, f"{name}_forward")
    assert arguments(value) == arguments(forward)


@pytest.mark.parametrize("name", sorted({*FUNCTIONS} - {*OTHER_ARGUMENTS}))
def test_every_function_has_a_reference_with_the_same_arguments_and_defaults(name):
    ours, theirs = arguments(getattr(F, name)), arguments(torch_reference(name))
    assert list(ours) == list(theirs)
    assert _differing(name, ours, theirs) == {}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_class_has_a_reference_with_the_same_arguments_and_defaults(name):
    ours, theirs = arguments(CLASSES[name]), arguments(torch_reference(name))
    if torch_reference(name).__module__.startswith("torch_ref"):
        assert list(ours) == list(theirs)[: len(ours)]
    assert _differing(name, ours, theirs) == {}


@pytest.mark.parametrize("name", sorted({*FUNCTIONS, *CLASSES} - {"dropout"}))
def test_verify_has_a_case_for_it(name):
    assert f'"{name}"' in inspect.getsource(cases)


def test_defaults_of_configurations_are_those_of_the_published_models():
    """The references read these configurations, so that a wrong default would be wrong on both sides."""
    from transformers import GPT2Config, LlamaConfig, Qwen3Config

    assert QKNorm().eps == Qwen3Config().rms_norm_eps
    assert RoPE().theta == 10000.0  # Su et al. 2021, section 3.2.2
    assert arguments(RMSNorm)["eps"] == LlamaConfig().rms_norm_eps
    assert arguments(LayerNorm)["eps"] == GPT2Config().layer_norm_epsilon
    assert GPTConfig.gpt2("124M").context_length == GPT2Config().n_positions


def test_an_unknown_name_is_refused():
    for find in (implementation, torch_reference):
        with pytest.raises(KeyError, match="hardmax is in none of"):
            find("hardmax")


def _differing(name, ours, theirs):
    """The arguments of both sides whose defaults differ, without the justified ones."""
    common = {key for key in ours if key in theirs and (name, key) not in OTHER_DEFAULTS}
    return {key: (ours[key], theirs[key]) for key in common if ours[key] != theirs[key]}

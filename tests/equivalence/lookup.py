"""Which function or class a name means: a candidate's, npllm's, or the PyTorch reference."""

import npllm.attention
import npllm.before_transformers
import npllm.functional
import npllm.layers
import npllm.models
import torch_ref.attention
import torch_ref.before_transformers
import torch_ref.functional
import torch_ref.layers
import torch_ref.models

REFERENCE_OF = {
    npllm.functional: torch_ref.functional,
    npllm.layers: torch_ref.layers,
    npllm.attention: torch_ref.attention,
    npllm.before_transformers: torch_ref.before_transformers,
    npllm.models: torch_ref.models,
}

_candidate = None


def set_candidate(module):
    """Test the functions and classes of this module, where it defines them, instead of npllm's (None: npllm's only).

    `pytest --impl MODULE` calls it. Returns the module that was set before.
    """
    global _candidate
    before, _candidate = _candidate, module
    return before


def candidate(name):
    """The function or class of this name in the candidate module, or None."""
    return getattr(_candidate, name, None)


def implementation(name):
    """The function or class of this name under test: the candidate's if it defines one, else npllm's."""
    for module in (_candidate, *REFERENCE_OF):
        if hasattr(module, name):
            return getattr(module, name)
    raise KeyError(f"{name} is in none of {', '.join(module.__name__ for module in REFERENCE_OF)}")


def torch_reference(name):
    """The function or class of this name in torch_ref."""
    for module in REFERENCE_OF.values():
        if hasattr(module, name):
            return getattr(module, name)
    raise KeyError(f"{name} is in none of {', '.join(module.__name__ for module in REFERENCE_OF.values())}")

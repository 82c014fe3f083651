import dataclasses
import inspect

import numpy as np
import pytest

import npllm.attention
import npllm.functional
import npllm.layers
import npllm.models
from npllm import functional as F
from tests.equivalence.docstring_shapes import check_stated_shapes, stated_shapes


def test_shapes_are_read_from_the_first_two_lines():
    assert stated_shapes("y = x      (..., I), (O, I) → (..., O)") == (
        [["...", "I"], ["O", "I"]],
        [["...", "O"]],
        False,
    )
    assert stated_shapes("y      (N) → () or (N)") == ([["N"]], [[], ["N"]], True)
    assert stated_shapes("A sum of three.\n\nA line.\n    (N), (N) → (N)") is None
    assert stated_shapes("A sum.\n    (N), (N) → (N)\n\n    More.") == ([["N"], ["N"]], [["N"]], False)
    assert stated_shapes("No shapes here (at all).") is None


def test_other_shapes_than_stated_are_refused():
    doc = "y = x Wᵀ      (..., I), (O, I) → (..., O)"
    x, weight = np.zeros((2, 3)), np.zeros((4, 3))
    assert check_stated_shapes(doc, [x, weight], [np.zeros((2, 4))]) == {"I": 3, "O": 4}
    for output in (np.zeros((2, 3)), np.zeros((5, 4)), np.zeros(4)):
        with pytest.raises(AssertionError):
            check_stated_shapes(doc, [x, weight], [output])


def test_every_function_and_class_states_its_shapes():
    exempt = {"Cache", "Module", "Parameter", "draw_dropout_mask", "sinusoidal_positions", "softmax_naive_limit"}
    exempt |= {"causal_mask", "GPTConfig", "alibi_slopes", "halves_from_pairs"}
    exempt |= {name for name in vars(F) if name.endswith(("_frequencies", "_amplitude"))}  # tables, not functions
    exempt |= {"KVCache", "SlidingWindowKVCache", "DecoderConfig"}
    exempt |= {"ARCHITECTURES", "architecture", "build", "from_pretrained"}
    silent = []
    for module in (npllm.functional, npllm.layers, npllm.attention, npllm.models):
        for name, item in vars(module).items():
            if name.startswith("_") or name in exempt or name.endswith("_forward") or inspect.ismodule(item):
                continue
            if not dataclasses.is_dataclass(item) and stated_shapes(item.__doc__) is None:
                silent.append(name)
    assert not silent, f"no shapes in the first two lines of {silent}"

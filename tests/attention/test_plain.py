"""The plain form with a rule, a table and a soft cap is the core on the arrays that these stand for."""

import numpy as np

from npllm import functional as F
from npllm.attention.distance_bias import DistanceBias
from npllm.attention.mask_rule import MaskRule
from npllm.attention.plain import plain_attention_backward, plain_attention_forward
from npllm.core.gradient_check import check_function_gradients


def test_rules_and_tables_are_arrays():
    rng, positions = np.random.default_rng(0), np.arange(7)
    q, k, v = (rng.standard_normal((2, 4, 7, 3)) for _ in range(3))
    rule, bias = MaskRule(positions, positions, 3), DistanceBias(rng.standard_normal((4, 7)), positions, positions)
    y, cache = plain_attention_forward(q, k, v, rule, bias, 0.3)
    expected, core = F.attention_forward(q, k, v, rule.array(), bias.array(), 0.3)
    np.testing.assert_array_equal(y, expected)
    dy = rng.standard_normal(y.shape)
    *gradients, dtable = plain_attention_backward(dy, cache)
    *wanted, dbias = F.attention_backward(dy, core)
    for gradient, want in zip(gradients, wanted):
        np.testing.assert_array_equal(gradient, want)
    np.testing.assert_array_equal(dtable, bias.table_gradient(dbias))


def test_finite_differences_of_the_table():
    rng, positions = np.random.default_rng(0), np.arange(5)
    arguments = [rng.standard_normal(shape) for shape in [(2, 4, 5, 3), (2, 2, 5, 3), (2, 2, 5, 2), (4, 5)]]

    def forward(q, k, v, table):
        rule, bias = MaskRule(positions, positions, 4), DistanceBias(table, positions, positions)
        return plain_attention_forward(q, k, v, rule, bias, None, None, 1.5)

    check_function_gradients(forward, plain_attention_backward, arguments, rng)

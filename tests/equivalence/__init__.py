"""Compare any function or layer of npllm with its PyTorch reference, the one of the same name in `torch_ref`.

Both get the same input and the same weights, and the same random cotangent is back-propagated through both. The output,
the gradient of every floating-point input and of every parameter, and every dtype are compared. Inputs, cotangent and
caches are read-only meanwhile, so a function that writes to them fails. Shapes are compared with those that the
docstrings state.

The cotangent is random, never ones: the gradient of softmax for a constant cotangent is zero, which hides every error.
"""

from tests.equivalence.functions import check_function, compare_function
from tests.equivalence.layers import check_layer, compare_layer
from tests.equivalence.lookup import implementation, torch_reference

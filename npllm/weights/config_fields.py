"""Names and limits that the config.json of every model type shares; each type has a table of fields, see utils/fields.

The default of a field is that of transformers.
"""

from npllm.layers.activations import Activation
from npllm.utils.fields import MAX_SIZE

ACTIVATION_NAMES: dict[str, Activation] = {  # transformers' name: npllm's, see layers/activations.py
    "silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh", "gelu_python_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh", "quick_gelu": "quick_gelu", "relu": "relu", "relu2": "squared_relu",
    "sigmoid": "sigmoid", "tanh": "tanh",
}  # fmt: skip
SAVED_ACTIVATIONS = {name: theirs for theirs, name in reversed(ACTIVATION_NAMES.items())}  # the first of several
MAX_LAYERS, MAX_HEAD_DIM = 10_000, 2**16

__all__ = ["ACTIVATION_NAMES", "MAX_HEAD_DIM", "MAX_LAYERS", "MAX_SIZE", "SAVED_ACTIVATIONS"]

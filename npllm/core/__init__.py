"""The conventions that every layer follows.

Read in this order: cache, checks, module, gradient_check.
"""

from npllm.core.cache import Cache
from npllm.core.module import Module, Parameter

__all__ = [
    "Cache",
    "Module",
    "Parameter",
]

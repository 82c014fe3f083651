"""Models: layers and attention put together.

Read in this order: transformer_block, gpt, accounting, trace.
"""

from npllm.models.gpt import GPT, GPTConfig
from npllm.models.transformer_block import TransformerBlock

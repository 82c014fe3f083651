"""Models: layers and attention put together. Here so far: the block of which a GPT is a stack."""

from npllm.models.transformer_block import TransformerBlock

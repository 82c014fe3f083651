"""Generation: a model asked for the next token, again and again.

Read in this order: sampling, generate.
"""

from npllm.generation.autoregressive import complete, generate
from npllm.generation.sampling import keep_top_k, keep_top_p, penalize_repetition, sample

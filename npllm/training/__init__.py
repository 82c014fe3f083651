"""Training: optimizers. (The loop, schedules and checkpoints come with the whole GPT.)"""

from npllm.training.optimizers import SGD, AdamW

"""Training: from gradients to better weights.

Read in this order: optimizers, schedules, clipping, trainer, checkpoint, log, run.
"""

from npllm.training.checkpoint import load_checkpoint, save_checkpoint
from npllm.training.clipping import clip_gradient_norm, gradient_norm
from npllm.training.optimizers import SGD, AdamW, is_matrix
from npllm.training.run import Run, create_run, open_run
from npllm.training.schedules import warmup_cosine
from npllm.training.trainer import Report, Trainer, TrainingSettings, evaluate

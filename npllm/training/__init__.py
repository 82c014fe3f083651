"""Training: optimizers, learning-rate schedules, the training loop, checkpoints and resumable runs. See README.md."""

from npllm.training.checkpoint import load_checkpoint, save_checkpoint
from npllm.training.clipping import clip_grad_norm, grad_norm
from npllm.training.optimizers import SGD, AdamW, decays_weight
from npllm.training.run import Run, create_run, open_run, open_trained
from npllm.training.schedules import warmup_cosine
from npllm.training.step import training_step
from npllm.training.trainer import StepMetrics, Trainer, TrainingConfig, evaluate

__all__ = [
    "SGD",
    "AdamW",
    "Run",
    "StepMetrics",
    "Trainer",
    "TrainingConfig",
    "clip_grad_norm",
    "create_run",
    "decays_weight",
    "evaluate",
    "grad_norm",
    "load_checkpoint",
    "open_run",
    "open_trained",
    "save_checkpoint",
    "training_step",
    "warmup_cosine",
]

"""Continue a training run of npllm in PyTorch, on one or several processes; npllm can continue the result.

    python -m torch_ref.train --out FOLDER
    torchrun --nproc_per_node=2 -m torch_ref.train --out FOLDER

FOLDER is the folder of a run of `npllm train`. Each process computes the gradient of its part of every batch, and
DistributedDataParallel averages the gradients, so the loss curve is that of one process with the whole batch. On GPUs
the processes communicate by NCCL, otherwise by gloo. Dropout masks are drawn by PyTorch, so with dropout the curve
differs from npllm's.
"""

import argparse
import os
import sys
import time

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from npllm.training.log import StepLog
from npllm.training.run import Run, open_run
from npllm.training.trainer import Trainer
from torch_ref import models


def main(arguments: list[str] | None = None) -> None:
    """Train to the last step of the run, or for --steps steps."""
    parser = argparse.ArgumentParser(prog="python -m torch_ref.train", description=__doc__.split("\n")[0])
    parser.add_argument("--out", metavar="FOLDER", required=True, help="the folder of a run of npllm train")
    parser.add_argument("--steps", metavar="N", type=int, help="number of steps (default: to the last one of the run)")
    parser.add_argument(
        "--checkpoint-interval", metavar="N", type=int, default=250, help="steps between checkpoints (default: 250)"
    )
    options = parser.parse_args(arguments)
    distributed = "RANK" in os.environ  # set by torchrun
    device = _device()
    if distributed:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        run = open_run(options.out, lock=int(os.environ.get("RANK", 0)) == 0)  # process 0 writes
        train(run, device, options.steps, options.checkpoint_interval)
        if distributed:
            dist.barrier()  # no process exits before process 0 has saved the checkpoint
    except (OSError, ValueError, FloatingPointError) as error:
        sys.exit(f"torch_ref.train: {error}")
    finally:
        if distributed:
            dist.destroy_process_group()


def train(run: Run, device: torch.device, num_steps: int | None = None, checkpoint_interval: int = 250) -> None:
    """Train a run on this process's part of every batch; process 0 writes the log, the checkpoints and the model."""
    trainer, config = run.trainer, run.trainer.config
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if config.batch_size % world_size:
        raise ValueError(
            f"batch_size is {config.batch_size}; it must be divisible by {world_size}, the number of processes"
        )
    model = getattr(models, type(run.model).__name__)(run.model.config).to(device)
    model.load_state_dict({name: torch.tensor(array) for name, array in run.model.state_dict().items()})
    optimizer = _optimizer(model, trainer)
    parallel = DistributedDataParallel(model) if world_size > 1 else model
    last_step = config.num_steps if num_steps is None else min(trainer.steps_done + num_steps, config.num_steps)
    log = StepLog(run.folder / "log.jsonl", trainer.steps_done) if rank == 0 else None
    while trainer.steps_done < last_step:
        step = trainer.steps_done
        evaluates = rank == 0 and step % config.eval_interval == 0
        validation_loss = _evaluate(model, trainer, device) if evaluates else None
        started = time.perf_counter()
        inputs, targets = next(trainer.batches)  # every process draws the same batch and uses its rows of it
        optimizer.zero_grad()
        loss = _accumulate(
            parallel, inputs[rank::world_size], targets[rank::world_size], config.grad_accum_steps, device
        )
        grad_norm = clip_grad_norm_(model.parameters(), config.max_grad_norm)
        if not (loss.isfinite() and grad_norm.isfinite()):
            raise FloatingPointError(f"step {step} has loss {loss.item()} and gradient norm {grad_norm.item()}")
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step)
        optimizer.step()
        trainer.steps_done += 1
        if world_size > 1:
            dist.all_reduce(loss)
        if log is not None:
            record = {
                "step": step,
                "loss": loss.item() / world_size,
                "learning_rate": config.learning_rate_at(step),
                "grad_norm": grad_norm.item(),
                "tokens_per_second": max(round(targets.size / max(time.perf_counter() - started, 1e-9)), 1),
            }
            log.add(record if validation_loss is None else record | {"validation_loss": validation_loss})
            if trainer.steps_done % checkpoint_interval == 0 or trainer.steps_done == last_step:
                _copy_to_npllm(model, optimizer, trainer)
                run.save()
    if rank == 0 and trainer.steps_done == config.num_steps:
        run.save_model()


def _device():
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    return device


def _accumulate(model, inputs, targets, grad_accum_steps, device):
    """Add the gradient of the mean loss over this process's rows, one micro-batch at a time; return the loss."""
    total = torch.zeros((), device=device)
    num_micro_batches = min(grad_accum_steps, len(inputs))
    for x, y in zip(np.array_split(inputs, num_micro_batches), np.array_split(targets, num_micro_batches)):
        logits = model(torch.from_numpy(x).to(device))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, -2), torch.from_numpy(y).to(device).flatten())
        loss = (loss + getattr(model, "module", model).aux_loss()) * (len(x) / len(inputs))
        loss.backward()
        total += loss.detach()
    return total


@torch.inference_mode()
def _evaluate(model, trainer, device):
    """The validation loss, on the windows that Trainer.evaluate uses."""
    model.eval()
    config, dataset = trainer.config, trainer.validation
    num_windows = min(len(dataset), config.eval_batches * config.batch_size)
    total = 0.0
    for start in range(0, num_windows, config.batch_size):
        batch = dataset[np.arange(start, min(start + config.batch_size, num_windows))]
        inputs, targets = (torch.from_numpy(array).to(device) for array in batch)
        total += model.loss(inputs, targets).item() * len(inputs)
    model.train()
    return total / num_windows


def _optimizer(model: torch.nn.Module, trainer: Trainer) -> torch.optim.AdamW:
    """torch.optim.AdamW with the state of npllm's: the same groups, running averages and step counts."""
    ours, named = trainer.optimizer, dict(model.named_parameters())
    groups = [
        {"params": [named[name] for name in named if name in ours.decaying], "weight_decay": ours.weight_decay},
        {"params": [named[name] for name in named if name not in ours.decaying], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=ours.learning_rate, betas=ours.betas, eps=ours.eps)
    for name, parameter in named.items():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(ours.steps[name])),
            "exp_avg": torch.tensor(ours.exp_avg[name], device=parameter.device),
            "exp_avg_sq": torch.tensor(ours.exp_avg_sq[name], device=parameter.device),
        }
    return optimizer


def _copy_to_npllm(model: torch.nn.Module, optimizer: torch.optim.AdamW, trainer: Trainer) -> None:
    """Copy the parameters, running averages and step counts into npllm's trainer."""
    ours = trainer.optimizer
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        ours.parameters[name].data[...] = parameter.detach().cpu().numpy()
        ours.exp_avg[name][...] = state["exp_avg"].cpu().numpy()
        ours.exp_avg_sq[name][...] = state["exp_avg_sq"].cpu().numpy()
        ours.steps[name] = int(state["step"].item())


if __name__ == "__main__":
    main()

"""Continue a run of npllm in PyTorch, for those who outgrow one machine; npllm can continue what comes out.

    python -m torch_ref.train --out FOLDER
    torchrun --nproc_per_node=2 -m torch_ref.train --out FOLDER

The folder is one that `npllm train` has begun. Every process takes its share of each batch, and DistributedDataParallel
averages the gradients: the loss curve is that of one process with the whole batch. On GPUs the processes talk by NCCL,
else by gloo. (Only dropout's draws are PyTorch's own.)
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
from npllm.training.run import open_run
from torch_ref import models


def main(arguments=None):
    """Train to the run's last step, or for --steps; process 0 writes checkpoints, the log, and at the end the model."""
    parser = argparse.ArgumentParser(prog="python -m torch_ref.train", description=__doc__.split("\n")[0])
    parser.add_argument("--out", metavar="FOLDER", required=True, help="a run that npllm train has begun")
    parser.add_argument("--steps", metavar="N", type=int, help="how many steps to go on (default: to the end)")
    parser.add_argument("--checkpoint-every", metavar="N", type=int, default=250)
    options = parser.parse_args(arguments)
    distributed = "RANK" in os.environ  # set by torchrun
    device = _device()
    if distributed:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        train(open_run(options.out), device, options.steps, options.checkpoint_every)
        if distributed:
            dist.barrier()  # nobody leaves while process 0 still writes
    except (OSError, ValueError) as error:
        sys.exit(f"torch_ref.train: {error}")
    finally:
        if distributed:
            dist.destroy_process_group()


def train(run, device, num_steps=None, checkpoint_every=250):
    """Continue an opened Run on this process's share of every batch."""
    trainer, settings = run.trainer, run.trainer.config
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if settings.batch_size % world:
        raise ValueError(f"batch_size is {settings.batch_size}; {world} processes must divide it into equal shares")
    model = getattr(models, type(run.model).__name__)(run.model.config).to(device)
    model.load_state_dict({name: torch.tensor(array) for name, array in run.model.state_dict().items()})
    optimizer = _optimizer(model, trainer)
    parallel = DistributedDataParallel(model) if world > 1 else model
    end = settings.num_steps if num_steps is None else min(trainer.steps_done + num_steps, settings.num_steps)
    log = StepLog(run.folder / "log.jsonl", trainer.steps_done) if rank == 0 else None
    while trainer.steps_done < end:
        started, step = time.perf_counter(), trainer.steps_done
        validation_loss = (
            _evaluate(model, trainer, device) if rank == 0 and step % settings.eval_interval == 0 else None
        )
        inputs, targets = next(trainer.batches)  # all processes draw the same batch, and each keeps its rows
        loss = _accumulate(parallel, inputs[rank::world], targets[rank::world], settings.grad_accum_steps, device)
        norm = clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(step)
        optimizer.step()
        trainer.steps_done += 1
        if world > 1:
            dist.all_reduce(loss)
        if rank == 0:
            speed = round(targets.size / (time.perf_counter() - started))
            record = {"step": step, "loss": loss.item() / world, "learning_rate": settings.learning_rate_at(step),
                      "grad_norm": norm.item(), "tokens_per_second": speed}  # fmt: skip
            log.add(record if validation_loss is None else record | {"validation_loss": validation_loss})
            if trainer.steps_done % checkpoint_every == 0 or trainer.steps_done == end:
                _hand_back(model, optimizer, trainer)
                run.save()
    if rank == 0 and trainer.steps_done == settings.num_steps:
        run.save_model()


def _device():
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    return device


def _accumulate(model, inputs, targets, grad_accum_steps, device):
    """The gradient of the mean loss over this process's rows, part by part; return the loss."""
    model.zero_grad()
    total = torch.zeros((), device=device)
    parts = min(grad_accum_steps, len(inputs))
    for part, part_targets in zip(np.array_split(inputs, parts), np.array_split(targets, parts)):
        logits = model(torch.from_numpy(part).to(device))
        wanted = torch.from_numpy(part_targets).to(device)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, -2), wanted.flatten())
        loss = (loss + getattr(model, "module", model).aux_loss()) * (len(part) / len(inputs))
        loss.backward()
        total += loss.detach()
    return total


@torch.inference_mode()
def _evaluate(model, trainer, device):
    """What Trainer.evaluate does, on the device."""
    model.eval()
    settings, data = trainer.config, trainer.validation
    num_windows = min(len(data), settings.eval_batches * settings.batch_size)
    total = 0.0
    for start in range(0, num_windows, settings.batch_size):
        inputs, targets = data[np.arange(start, min(start + settings.batch_size, num_windows))]
        total += model.loss(torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device)).item() * len(
            inputs
        )
    model.train()
    return total / num_windows


def _optimizer(model, trainer):
    """torch.optim.AdamW as npllm's stands: the same groups, averages and step counts."""
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


def _hand_back(model, optimizer, trainer):
    """Put weights, averages and step counts back into npllm's trainer."""
    ours = trainer.optimizer
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        ours.parameters[name].data[...] = parameter.detach().cpu().numpy()
        ours.exp_avg[name][...] = state["exp_avg"].cpu().numpy()
        ours.exp_avg_sq[name][...] = state["exp_avg_sq"].cpu().numpy()
        ours.steps[name] = int(state["step"].item())


if __name__ == "__main__":
    main()

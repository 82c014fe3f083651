"""Random config.json files: the logits, loss and gradients of transformers, or a refusal."""

import tempfile
from pathlib import Path

import numpy as np

from tests.fuzz.runner import Finding
from tests.weights.random_configs import outcome, random_config

FAULTS = ("different", "crash")


def configs(rng: np.random.Generator, number: int = 10) -> int:
    """Folders with random weights and a random config.json, opened by transformers and by npllm."""
    for _ in range(number):
        config = random_config(rng)
        with tempfile.TemporaryDirectory() as folder:
            result, said = outcome(config, Path(folder))
        if result.startswith(FAULTS):
            raise Finding(f"{result}: {said}\nconfig.json is {config}", config)
    return number


ROUNDS = {"configs": configs}

"""What the sections of the tour share: the inputs of the tour, and the results that later sections and figures use."""

from dataclasses import dataclass, field

import numpy as np
from rich.console import Console

from npllm.batching.dataset import WindowDataset
from npllm.batching.loader import DataLoader
from npllm.models.gpt import GPT
from npllm.tokenizers.bpe import BPETokenizer
from npllm.tokenizers.byte_pair.train import Merge
from npllm.utils.terminal import print_section


@dataclass
class TourState:
    """Inputs of the tour and results of its sections. A result does not exist before its section has run."""

    console: Console
    text: str
    prompt: str
    rng: np.random.Generator
    num_steps: int  # of training the GPT
    seed: int

    # results of `text`
    words: list[str] = field(init=False)
    merges: list[Merge] = field(init=False)
    tokenizer: BPETokenizer = field(init=False)
    ids: np.ndarray = field(init=False)  # (N): the text as ids of `tokenizer`
    dataset: WindowDataset = field(init=False)
    loader: DataLoader = field(init=False)
    tokens: list[str] = field(init=False)  # the first T tokens of the prompt, readable
    x: np.ndarray = field(init=False)  # (T, C): their vectors

    # results of `attention`
    scores: np.ndarray = field(init=False)  # (T, T)
    weights: np.ndarray = field(init=False)  # (T, T)
    causal_weights: np.ndarray = field(init=False)  # (T, T)

    # results of `learning`
    model: GPT = field(init=False)
    losses: list[float] = field(init=False)  # of every training step
    continuation: str = field(init=False)

    def section(self, number: int, title: str, shapes: str, explanation: str) -> None:
        """Print the heading of a section."""
        print_section(self.console, number, title, shapes, explanation)

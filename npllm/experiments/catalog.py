"""All experiments by name, in the order of the claims."""

from importlib import import_module

from npllm.experiments.experiment import Experiment

NAMES = (
    "recall-distance",
    "seq2seq-bottleneck",
    "word-similarity",
    "frozen-embeddings",
    "vocabulary-size",
    "gradient-noise",
    "batch-size",
    "training-stride",
    "positions",
    "softmax-overflow",
    "attention-scale",
    "head-diversity",
    "shortcuts",
    "initial-loss",
    "kv-cache",
    "attention-memory",
    "shared-keys",
    "training-options",
    "attention-relatives",
    "published-layers",
    "published-quantization",
    "published-positions",
)


def load(name: str) -> Experiment:
    """The experiment; its file is the name with underscores.

    Raises ValueError for an unknown name.
    """
    if name not in NAMES:
        raise ValueError(f"there is no experiment {name!r}; there are {', '.join(NAMES)}")
    return import_module(f"npllm.experiments.{name.replace('-', '_')}").EXPERIMENT

"""A training run in a folder: its configuration, its text as token ids, and its last checkpoint.

    run.json                  configuration of the model and of the training, number of BLAS threads
    vocabulary.json           the tokenizer
    train.tokens              token ids of the training text
    validation.tokens         token ids of the validation text, the end of the given text
    checkpoint.safetensors    the state of the training, replaced at every checkpoint
    config.json, model.safetensors    written at the end: the model alone, in Hugging Face's layout

run.json is written last, so a folder with a run.json is complete. The original text is not needed any more.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npllm.batching.dataset import WindowDataset, encode_for_training
from npllm.batching.token_file import open_token_file, write_token_file
from npllm.models.presets import build, config_as_dict, config_from_dict
from npllm.tokenizers import characters
from npllm.tokenizers.bpe import BPETokenizer
from npllm.tokenizers.characters import CharacterTokenizer
from npllm.tokenizers.formats import npllm_json
from npllm.training.checkpoint import load_checkpoint, save_checkpoint
from npllm.training.trainer import Trainer, TrainingConfig
from npllm.utils.files import atomic_write

FORMAT, VERSION = "npllm run", 2
RUN, VOCABULARY, CHECKPOINT = "run.json", "vocabulary.json", "checkpoint.safetensors"
TOKENIZERS: dict[str, type[CharacterTokenizer] | type[BPETokenizer]] = {
    characters.FORMAT: CharacterTokenizer,
    npllm_json.FORMAT: BPETokenizer,
}


class RunConfig(NamedTuple):
    """The content of run.json.

    num_threads  number of BLAS threads, or None for any. Matrix products with another number of threads may differ in
                 the last bit, so a run that is to be resumed bit for bit must use this number.
    """

    model: Any
    training: TrainingConfig
    num_threads: int | None


class Run:
    """A trainer with its folder, tokenizer and recorded number of threads; see `create_run` and `open_run`."""

    def __init__(self, folder: Path, tokenizer: Any, trainer: Trainer, num_threads: int | None = None):
        self.folder, self.tokenizer, self.trainer, self.num_threads = Path(folder), tokenizer, trainer, num_threads

    @property
    def model(self) -> Any:
        """The model in training."""
        return self.trainer.model

    def save(self) -> None:
        """Replace the checkpoint by the current state, atomically."""
        save_checkpoint(self.folder / CHECKPOINT, *self.trainer.state())

    def save_model(self) -> None:
        """Write the model alone, for `npllm generate` and for transformers."""
        self.model.save_pretrained(self.folder)


def create_run(
    folder: str | Path,
    text: str,
    tokenizer: Any,
    model_config: Any,
    training_config: TrainingConfig | None = None,
    validation_fraction: float = 0.1,
    num_threads: int | None = None,
) -> Run:
    """Write a new run into a folder and open it.

    Args:
        folder: created if it does not exist; raises FileExistsError if it has a run.
        text: what to train on; the last `validation_fraction` of it becomes the validation text.
        model_config: a GPTConfig or DecoderConfig.
        num_threads: the number of BLAS threads to record, see RunConfig.

    Raises ValueError if the training or validation text is too short for one window.
    """
    folder, training_config = Path(folder), training_config or TrainingConfig()
    if (folder / RUN).exists():
        raise FileExistsError(f"{folder} already has a run; resume it, or choose another folder")
    if not 0.0 < validation_fraction < 1.0:
        raise ValueError(f"validation_fraction is {validation_fraction}; it must be between 0 and 1")
    split = int(len(text) * (1.0 - validation_fraction))
    ids = {
        "train": encode_for_training(text[:split], tokenizer),
        "validation": encode_for_training(text[split:], tokenizer),
    }
    for name, part in ids.items():
        if len(part) <= model_config.context_length:
            raise ValueError(
                f"the {name} text has {len(part)} tokens; with context_length {model_config.context_length} it "
                f"must have at least {model_config.context_length + 1}"
            )
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in ids.items():
        write_token_file(folder / f"{name}.tokens", part, model_config.vocab_size)
    tokenizer.save(folder / VOCABULARY)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "model": config_as_dict(model_config),
        "training": asdict(training_config),
        "num_threads": num_threads,
    }
    with atomic_write(folder / RUN) as file:
        file.write(json.dumps(content, indent=1).encode())
    return open_run(folder)


def open_run(folder: str | Path, dtype: str = "float32") -> Run:
    """Open a run at its last checkpoint, or at step 0 if it has none.

    Raises FileNotFoundError if the folder has no run, ValueError naming the file that is damaged.
    """
    folder = Path(folder)
    config = read_run(folder)
    tokenizer = load_tokenizer(folder / VOCABULARY)
    model = build(config.model, rng=np.random.default_rng(config.training.seed), dtype=dtype)
    T = config.model.context_length
    train = WindowDataset(open_token_file(folder / "train.tokens"), max_length=T, stride=1)
    validation = WindowDataset(open_token_file(folder / "validation.tokens"), max_length=T, stride=T)
    trainer = Trainer(model, train, validation, config.training)
    if (folder / CHECKPOINT).exists():
        arrays, values = load_checkpoint(folder / CHECKPOINT)
        try:
            trainer.load_state(arrays, values)
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{folder / CHECKPOINT} does not belong to this run: {error}") from error
    return Run(folder, tokenizer, trainer, config.num_threads)


def read_run(folder: str | Path) -> RunConfig:
    """The content of a folder's run.json; raises FileNotFoundError or ValueError."""
    path = Path(folder) / RUN
    if not path.is_file():
        raise FileNotFoundError(f"there is no {RUN} in {folder}; it must be the folder of a run of npllm train")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format is {content['format']!r}; it must be {FORMAT!r}")
        version = content["version"]
        if version == VERSION:
            return _run_config(content)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    raise ValueError(f"{path} has version {version!r}; this npllm opens runs of version {VERSION} only: train again")


def _run_config(content):
    training = content["training"] | {"betas": tuple(content["training"]["betas"])}
    num_threads = content["num_threads"]
    if num_threads is not None and not (type(num_threads) is int and num_threads >= 1):
        raise ValueError(f"num_threads is {num_threads!r}; it must be an integer of at least 1, or null")
    return RunConfig(config_from_dict(content["model"]), TrainingConfig(**training), num_threads)


def load_tokenizer(path: str | Path) -> CharacterTokenizer | BPETokenizer:
    """The tokenizer in a vocabulary.json, of the class that its "format" names; raises ValueError for any other."""
    try:
        kind = json.loads(Path(path).read_text(encoding="utf-8"))["format"]
        tokenizer = TOKENIZERS[kind]
    except (ValueError, KeyError, TypeError) as error:
        formats = " or ".join(map(repr, TOKENIZERS))
        raise ValueError(f"{path} is not a vocabulary file of npllm: its format must be {formats} ({error})") from None
    return tokenizer.load(path)

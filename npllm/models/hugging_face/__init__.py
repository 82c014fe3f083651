"""Conversion between config.json and DecoderConfig. Read in this order: model_type, llama, rope, saving."""

from pathlib import Path
from typing import Any

from npllm.core.config import from_dict
from npllm.models.decoder_config import DecoderConfig
from npllm.models.hugging_face.model_types import MODEL_TYPES, decoder_config
from npllm.models.hugging_face.saving import hugging_face_config
from npllm.utils.file_errors import FileError
from npllm.weights.llama import OWN

DECODER_TYPES = (*MODEL_TYPES, OWN)  # the values of model_type that a Decoder can be made from


def read_decoder_config(path: str | Path, config: dict[str, Any]) -> DecoderConfig:
    """The DecoderConfig for the config.json of a model type of transformers, or of npllm's own.

    path   the name of the file in messages

    Raises ValueError that names the file and every invalid field, what it is and what it must be.
    """
    if config.get("model_type") != OWN:
        return decoder_config(path, config)
    try:
        return from_dict(config.get("config"), DecoderConfig)
    except (ArithmeticError, RecursionError, TypeError, ValueError) as error:
        raise FileError(path, f"is not valid: {error}") from None


__all__ = ["DECODER_TYPES", "MODEL_TYPES", "decoder_config", "hugging_face_config", "read_decoder_config"]

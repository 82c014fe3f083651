r"""The tokenizer in the metadata of a GGUF file, llama.cpp's format.

    tokenizer.ggml.model        the algorithm: "gpt2" is byte-level BPE, "llama" is SentencePiece's BPE
    tokenizer.ggml.pre          the name of the pre-tokenizer; its patterns are part of llama.cpp, not of the file
    tokenizer.ggml.tokens       the texts of the tokens, by id; those of "gpt2" are in GPT-2's alphabet
    tokenizer.ggml.token_type   normal, unknown, control, user defined, unused, byte
    tokenizer.ggml.merges       "Ġ t", in the order in which they apply
    tokenizer.ggml.scores       of the tokens of "llama"; a higher score merges first

A name in PRE_TOKENIZERS stands for patterns that divide the text one after another. For SmolLM2 it is `smollm`: single
digits first, then GPT-2's pattern. A tokenizer.json that transformers writes from the same file has GPT-2's pattern
alone, and so other ids.

llama.cpp, src/llama-vocab.cpp; https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from pathlib import Path
from typing import Any

from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, O200K_PATTERN
from npllm.tokenizers.byte_pair.published_patterns import (
    CHINESE_OR_JAPANESE,
    DEEPSEEK_V3_PATTERN,
    LLAMA3_PATTERN,
    QWEN2_PATTERN,
    QWEN35_PATTERN,
    TEKKEN_PATTERN,
)
from npllm.tokenizers.character_bpe.charsmap import SentencePieceNormalizer
from npllm.tokenizers.character_bpe.vocabulary import CharacterVocabulary
from npllm.tokenizers.formats.sentence_piece_model import vocabulary_of_tokens

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # tokenizer.ggml.token_type
DIGIT = r"\p{N}"
DEEPSEEK_V3 = (r"\p{N}{1,3}", CHINESE_OR_JAPANESE, DEEPSEEK_V3_PATTERN)
DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", DIGIT)  # noqa: RUF001
FALCON = (r"[\p{P}$+<=>^~|`]+", GPT2_PATTERN, "[0-9][0-9][0-9]")
DEFAULT = (r"[\p{P}$+<=>^~|]+", GPT2_PATTERN, r"\p{N}+", "[0-9][0-9][0-9]")
BAILING = QWEN2_PATTERN.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?i:[sdmt]|ll|ve|re)")
SEED_CODER = QWEN2_PATTERN.replace(r"[^\s\p{L}\p{N}]+[\r\n]*", r"[^\s\p{L}\p{N}\r\n]+")

PRE_TOKENIZERS: dict[str, tuple[str, ...]] = {
    "default": DEFAULT,
    **dict.fromkeys(
        ("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "gigachat", "mellum", "modern-bert",
         "exaone4", "a.x-4.0", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "jina-v1-en", "jina-v2-code",
         "roberta-bpe"), (GPT2_PATTERN,)),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), (DIGIT, GPT2_PATTERN)),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "dbrx", "smaug-bpe",
         "glm4", "chatglm-bpe"), (LLAMA3_PATTERN,)),
    **dict.fromkeys(
        ("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan", "solar-open", "kormo", "grok-2"),
        (QWEN2_PATTERN,)),
    "qwen35": (QWEN35_PATTERN,),
    "tekken": (TEKKEN_PATTERN,),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "minimax-m2"), (O200K_PATTERN,)),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm"), DEEPSEEK_V3),
    "deepseek-coder": DEEPSEEK_CODER,
    "falcon": FALCON,
    **dict.fromkeys(("bailingmoe", "bailingmoe2", "llada-moe"), (BAILING,)),
    "seed-coder": (SEED_CODER,),
}  # fmt: skip
IGNORE_MERGES = {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken"}
ADD_BOS = IGNORE_MERGES | {"chameleon"}  # where the file does not say add_bos_token
OTHER_MODELS = {
    "bert": "WordPiece",
    "t5": "Unigram",
    "rwkv": "RWKV's trie",
    "plamo2": "PLaMo's Aho-Corasick tables",
    "gemma4": "BPE without pre-tokens",
    "none": "no tokenizer",
}


def to_tokenizer_json(metadata: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """The content of a tokenizer.json with the meaning of a byte-level tokenizer in GGUF metadata."""
    tokens, types = tokens_and_types(metadata, path)
    name = metadata.get("tokenizer.ggml.pre", "default")
    if name not in PRE_TOKENIZERS:
        raise ValueError(f"tokenizer.ggml.pre of {path} is {name!r}; npllm supports {', '.join(PRE_TOKENIZERS)}")
    merges = metadata.get("tokenizer.ggml.merges")
    if not isinstance(merges, list) or not all(isinstance(merge, str) for merge in merges):
        raise ValueError(f"tokenizer.ggml.merges of {path} must be a list of strings")
    added = [
        {"id": index, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": kind == CONTROL}
        for index, (text, kind) in enumerate(zip(tokens, types)) if kind in (UNKNOWN, CONTROL, USER_DEFINED)
    ]  # fmt: skip
    return {
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": _pre_tokenizer(PRE_TOKENIZERS[name]),
        "decoder": {"type": "ByteLevel"},
        "model": {
            "type": "BPE",
            "vocab": {text: index for index, (text, kind) in enumerate(zip(tokens, types)) if kind != UNUSED},
            "merges": merges,
            "ignore_merges": name in IGNORE_MERGES,
        },
    }


def to_character_vocabulary(metadata: dict[str, Any], path: str | Path) -> CharacterVocabulary:
    """The vocabulary of a tokenizer of the model "llama". Raises ValueError that names the file and the field.

    The control tokens of Llama 2, Gemma and Mistral stand around a text as `ids_around_a_text` says.
    """
    tokens, types = tokens_and_types(metadata, path)
    scores = metadata.get("tokenizer.ggml.scores")
    if (
        not isinstance(scores, list)
        or len(scores) != len(tokens)
        or not all(isinstance(s, (int, float)) for s in scores)
    ):
        raise ValueError(f"tokenizer.ggml.scores of {path} must be a list of {len(tokens)} numbers")
    options = {"add_space_prefix": True, "remove_extra_whitespaces": False}
    for name, default in options.items():
        options[name] = metadata.get(f"tokenizer.ggml.{name}", default)
        if type(options[name]) is not bool:
            raise ValueError(f"tokenizer.ggml.{name} of {path} is {options[name]!r}; it must be a bool")
    normalizer = SentencePieceNormalizer(
        add_dummy_prefix=options["add_space_prefix"],
        remove_extra_whitespaces=options["remove_extra_whitespaces"],
        protected=tuple(text for text, kind in zip(tokens, types) if kind == USER_DEFINED),
    )
    try:
        return vocabulary_of_tokens([*zip(tokens, scores, types)], normalizer, byte_fallback=BYTE in types)
    except ValueError as error:
        raise ValueError(f"the tokenizer of {path}: {error}") from None


def tokens_and_types(metadata: dict[str, Any], path: str | Path) -> tuple[list[str], list[int]]:
    """The texts and the types of the tokens, by id. Raises ValueError that names the field if one is invalid."""
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens) or not tokens:
        raise ValueError(f"tokenizer.ggml.tokens of {path} must be a list of strings")
    types = metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    if not isinstance(types, list) or len(types) != len(tokens) or not all(type(kind) is int for kind in types):
        raise ValueError(f"tokenizer.ggml.token_type of {path} must be a list of {len(tokens)} integers")
    used = [token for token, kind in zip(tokens, types) if kind != UNUSED]
    if len(set(used)) != len(used):
        repeated = next(token for token in used if used.count(token) > 1)
        raise ValueError(f"tokenizer.ggml.tokens of {path} has {repeated!r} more than once")
    return tokens, types


def token_id(metadata: dict[str, Any], name: str, path: str | Path) -> int | None:
    """The id of tokenizer.ggml.NAME_token_id, such as bos or eos; None if the file has none."""
    number, size = metadata.get(f"tokenizer.ggml.{name}_token_id"), len(metadata.get("tokenizer.ggml.tokens", ()))
    if number is not None and not (type(number) is int and 0 <= number < size):
        raise ValueError(f"tokenizer.ggml.{name}_token_id of {path} is {number!r}; it must be an id below {size}")
    return number


def ids_around_a_text(metadata: dict[str, Any], path: str | Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids before and after a text, from add_bos_token and add_eos_token, each of no or one id."""
    model, pre = (metadata.get(f"tokenizer.ggml.{name}") for name in ("model", "pre"))
    adds_bos = model == "llama" or pre in ADD_BOS
    return _extra(metadata, "bos", adds_bos, path), _extra(metadata, "eos", False, path)


def check_model(metadata: dict[str, Any], path: str | Path) -> str:
    """The algorithm, "gpt2" or "llama"; raises ValueError, which names it, for any other."""
    model = metadata.get("tokenizer.ggml.model")
    if model is None:
        raise ValueError(f"{path} has no tokenizer: there is no field tokenizer.ggml.model")
    if model not in ("gpt2", "llama"):
        what = f", which is {OTHER_MODELS[model]}" if model in OTHER_MODELS else ""
        raise ValueError(f"tokenizer.ggml.model of {path} is {model!r}{what}; npllm can read 'gpt2' and 'llama'")
    return model


def _pre_tokenizer(patterns):
    """The pre_tokenizer of tokenizer.json for patterns that divide the text one after another."""
    if patterns == (GPT2_PATTERN,):
        return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in patterns
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [*splits, byte_level]}


def _extra(metadata, name, default, path):
    """The ids before or after a text: (id,) of bos or eos if the file asks for it, otherwise ()."""
    wanted, number = metadata.get(f"tokenizer.ggml.add_{name}_token", default), token_id(metadata, name, path)
    if type(wanted) is not bool:
        raise ValueError(f"tokenizer.ggml.add_{name}_token of {path} is {wanted!r}; it must be a bool")
    return (number,) if wanted and number is not None else ()

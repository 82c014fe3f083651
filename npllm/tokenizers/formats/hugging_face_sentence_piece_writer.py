"""Write a character-level tokenizer as Hugging Face's tokenizer.json: the counterpart of `hugging_face_sentence_piece`.

CharacterVocabulary → [content of tokenizer.json]
"""

from typing import Any

from npllm.tokenizers.character_bpe.decode import SPACE_SYMBOL
from npllm.tokenizers.character_bpe.normalization import Apply, Metaspace, Prepend, Replace
from npllm.tokenizers.character_bpe.vocabulary import CharacterVocabulary
from npllm.tokenizers.formats.hugging_face_components import write_normalizer

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def to_tokenizer_json_sp(vocabulary: CharacterVocabulary) -> dict[str, Any]:
    """The content of tokenizer.json for a CharacterVocabulary. Raises ValueError if it cannot reproduce the ids."""
    names = {token_id: token for token, token_id in vocabulary.tokens.items()}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None if vocabulary.unk_id is None else names[vocabulary.unk_id],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": vocabulary.fuse_unk,
        "byte_fallback": bool(vocabulary.byte_ids),
        "ignore_merges": vocabulary.ignore_merges,
        "vocab": vocabulary.tokens,
        "merges": [list(pair) for pair, _ in sorted(vocabulary.ranks.items(), key=lambda item: item[1])],
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token.id, "content": token.text, **{flag: getattr(token, flag) for flag in FLAGS}}
            for token in sorted(vocabulary.added_tokens.values(), key=lambda token: token.id)
        ],
        "normalizer": _sequence("normalizers", [_step_json(step) for step in vocabulary.normalizer]),
        "pre_tokenizer": _sequence("pretokenizers", _pre_tokenizer_json(vocabulary)),
        "post_processor": _post_processor_json(vocabulary, names),
        "decoder": _sequence("decoders", _decoder_json(vocabulary.decoding)),
        "model": model,
    }


def _sequence(list_name, steps):
    if len(steps) < 2:
        return steps[0] if steps else None
    return {"type": "Sequence", list_name: steps}


def _step_json(step):
    match step:
        case Prepend(prefix, False, False):
            return {"type": "Prepend", "prepend": prefix}
        case Replace(old, new):
            return {"type": "Replace", "pattern": {"String": old}, "content": new}
        case Apply(normalizer):
            return write_normalizer([normalizer])
        case Metaspace(symbol, scheme):
            return {"type": "Metaspace", "replacement": symbol, "prepend_scheme": scheme, "split": False}
        case _ if to_json := getattr(step, "to_tokenizer_json", None):
            return to_json()
    raise ValueError(f"tokenizer.json has no step for {step!r:.100}")


def _pre_tokenizer_json(vocabulary):
    steps = [_step_json(step) for step in vocabulary.pre_tokenizer]
    for step in steps:
        step["split"] = vocabulary.split_before == step["replacement"]
    splits = (("MergedWithNext", vocabulary.split_before), ("MergedWithPrevious", vocabulary.split_after))
    for behavior, character in splits:
        if character is not None and not any(step.get("split") for step in steps):
            pattern = {"String": character}
            steps.append({"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False})
    return steps


def _decoder_json(decoding):
    replace: dict[str, Any] = {"type": "Replace", "pattern": {"String": SPACE_SYMBOL}, "content": " "}
    if decoding.strip == "first token":
        replace = {"type": "Metaspace", "replacement": SPACE_SYMBOL, "prepend_scheme": "always", "split": False}
    steps: list[dict[str, Any]] = [replace]
    if decoding.invalid_bytes is not None:
        steps.insert(0 if decoding.replaces_in_bytes else 1, {"type": "ByteFallback"})
    steps.append({"type": "Fuse"})
    if decoding.strip in ("spaces", "prefix", "leading"):
        steps.append({"type": "Strip", "content": " ", "start": max(1, decoding.num_spaces), "stop": 0})
    return steps


def _post_processor_json(vocabulary, names):
    names = names | {token.id: token.text for token in vocabulary.added_tokens.values()}
    around = [*vocabulary.prefix_ids, *vocabulary.suffix_ids]
    if not around:
        return None

    def template(ids: tuple[int, ...]) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": names[token_id], "type_id": 0}} for token_id in ids]

    single = [
        *template(vocabulary.prefix_ids),
        {"Sequence": {"id": "A", "type_id": 0}},
        *template(vocabulary.suffix_ids),
    ]
    special: dict[str, Any] = {names[i]: {"id": names[i], "ids": [i], "tokens": [names[i]]} for i in around}
    second = [{kind: {**entry, "type_id": 1} for kind, entry in item.items()} for item in single]
    for item in second:
        if "Sequence" in item:
            item["Sequence"]["id"] = "B"
    return {"type": "TemplateProcessing", "single": single, "pair": single + second, "special_tokens": special}

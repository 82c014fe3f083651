"""Hugging Face's tokenizer.json for character-level BPE: the files of Llama 2, Gemma, Mistral, Phi-3 and Yi.

    text → added tokens → normalizer → pre_tokenizer → characters → merges → ids

`hugging_face` reads the files of byte-level BPE. The two are told apart by their steps: a byte-level file has a
ByteLevel step, a character-level one has a Prepend, a Replace or a Metaspace, and mostly `byte_fallback`.

A file that uses anything else is refused. The message lists everything in it that npllm cannot read.

Hugging Face, tokenizers (documentation of the components).
"""

import json
from itertools import chain
from typing import Any

from npllm.tokenizers.byte_pair.added_tokens import AddedToken
from npllm.tokenizers.character_bpe.decode import Decoding, InvalidBytes, Strip
from npllm.tokenizers.character_bpe.normalization import Apply, Metaspace, Prepend, Replace, Step, normalize
from npllm.tokenizers.character_bpe.vocabulary import CharacterVocabulary
from npllm.tokenizers.formats.hugging_face_components import read_normalizer, read_post_processor
from npllm.tokenizers.formats.npllm_json import is_id_table

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
MAX_ID = 2**31 - 1
SCHEMES = ("always", "first", "never")


def is_character_level(content: Any) -> bool:
    """True if parsed JSON is a tokenizer.json of BPE without a ByteLevel step: `from_tokenizer_json_sp` reads it."""
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        return False
    steps = [content.get(key) for key in ("pre_tokenizer", "decoder")]
    return content["model"].get("type", "BPE") == "BPE" and '"ByteLevel"' not in json.dumps(steps)


def from_tokenizer_json_sp(content: dict[str, Any]) -> CharacterVocabulary:
    """The vocabulary of a parsed tokenizer.json. Raises ValueError with every obstacle if npllm cannot read it."""
    reader = _Reader(content)
    if _has_surrogates(content):
        reader.obstacles.append("the file has a lone surrogate, which no text in UTF-8 contains")
    vocabulary = reader.read()
    if reader.obstacles:
        raise ValueError("npllm cannot read this tokenizer.json: " + "; ".join(dict.fromkeys(reader.obstacles)))
    return vocabulary


class _Reader:
    """Reads the parts of a file, and collects what stands in the way in `obstacles`."""

    def __init__(self, content):
        self.obstacles: list[str] = []
        self.content = content if isinstance(content, dict) else {}
        if content is not self.content:
            self.obstacles.append(f"the file is {content!r:.60}; it must be a JSON object")

    def read(self):
        content, model = self.content, self._model()
        for key in ("truncation", "padding"):
            if content.get(key) is not None:
                self.obstacles.append(f"{key} is {content[key]!r:.60}; it must be null")
        tokens, byte_ids = self._tokens(model)
        normalizer, _, _ = self._steps("normalizer", "normalizers", content.get("normalizer"))
        pre_tokenizer, before, after = self._steps("pre_tokenizer", "pretokenizers", content.get("pre_tokenizer"))
        if after is not None and any(isinstance(s, Replace) and s.old == after not in s.new for s in normalizer):
            after = None  # the text that is split has no such character left
        replaces_several = any(_replaces_several(step) for step in normalizer)
        if replaces_several and any(isinstance(s, Metaspace) and s.prepend_scheme == "first" for s in pre_tokenizer):
            self._refuse("Replace before a Metaspace with prepend_scheme first", normalizer, "one of a character")
        around = read_post_processor(content.get("post_processor"), self.obstacles)
        if around.trim_offsets is not None:
            self._refuse("trim_offsets of post_processor", True, "false")
        return CharacterVocabulary(
            tokens=tokens,
            ranks=self._ranks(model, tokens, byte_ids),
            byte_ids=byte_ids,
            unk_id=self._unk_id(model, tokens, byte_ids),
            fuse_unk=bool(model.get("fuse_unk")),
            split_before=before,
            split_after=after,
            ignore_merges=bool(model.get("ignore_merges")),
            normalizer=normalizer,
            pre_tokenizer=pre_tokenizer,
            added_tokens=self._added_tokens(tokens, normalizer),
            decoding=self._decoding(content.get("decoder")),
            prefix_ids=around.prefix_ids,
            suffix_ids=around.suffix_ids,
        )

    def _refuse(self, name, part, can_read):
        self.obstacles.append(f"{name} is {part!r:.100}; npllm can read {can_read}")

    def _model(self):
        model = self.content.get("model")
        if not isinstance(model, dict):
            self._refuse("model", model, "a JSON object")
            return {}
        if model.get("type", "BPE") != "BPE":
            self.obstacles.append(f"model.type is {model['type']!r:.60}; npllm can read BPE")
            return {}
        for key in ("byte_fallback", "fuse_unk", "ignore_merges"):
            if model.get(key) not in (None, False, True):
                self._refuse(f"model.{key}", model[key], "true or false")
        for key, values in (
            ("dropout", (None, 0)),
            ("continuing_subword_prefix", (None, "")),
            ("end_of_word_suffix", (None, "")),
        ):
            if model.get(key) not in values:
                self._refuse(f"model.{key}", model[key], "null")
        return model

    def _tokens(self, model):
        tokens = model.get("vocab")
        if not model:
            return {"": 0}, {}
        if not is_id_table(tokens) or not tokens:
            self._refuse("model.vocab", tokens, "an object from tokens to ids")
            return {"": 0}, {}
        if max(tokens.values()) > MAX_ID:
            self.obstacles.append(f"model.vocab has the id {max(tokens.values())}; ids must be at most {MAX_ID}")
        if len(set(tokens.values())) != len(tokens):
            self.obstacles.append("model.vocab assigns one id to several tokens; every token needs its own")
        byte_ids = {byte: tokens[f"<0x{byte:02X}>"] for byte in range(256) if f"<0x{byte:02X}>" in tokens}
        return tokens, byte_ids if model.get("byte_fallback") else {}

    def _unk_id(self, model, tokens, byte_ids):
        unk = model.get("unk_token")
        if unk is None or (isinstance(unk, str) and unk not in tokens and len(byte_ids) == 256):
            return None
        if not isinstance(unk, str) or unk not in tokens:
            self.obstacles.append(f"model.unk_token is {unk!r:.60}, which is missing from model.vocab")
            return None
        return tokens[unk]

    def _ranks(self, model, tokens, byte_ids):
        merges = model.get("merges", [])
        if not isinstance(merges, list):
            self._refuse("model.merges", merges, "a list")
            return {}
        pairs = [tuple(merge.split(" ") if isinstance(merge, str) else _as_list(merge)) for merge in merges]
        if wrong := [pair for pair in pairs if len(pair) != 2]:
            self.obstacles.append(f"model.merges has {wrong[0]!r:.60}; each must be two tokens")
            return {}
        try:
            parts = set(chain.from_iterable(pairs))
            missing = (parts | set(map("".join, pairs)) | {""}) - tokens.keys() - ({""} - parts)
        except TypeError:
            self.obstacles.append("model.merges must consist of pairs of texts")
            return {}
        if missing:
            self.obstacles.append(f"model.merges uses {min(missing)!r}, which is missing from model.vocab")
            return {}
        if bytes_merged := parts & {f"<0x{byte:02X}>" for byte in byte_ids}:
            self.obstacles.append(f"model.merges has {min(bytes_merged)!r}; npllm does not merge byte tokens")
        return dict(zip(pairs, range(len(pairs))))  # of a repeated pair, the last index counts

    def _steps(self, name, list_name, part):
        """(steps, split_before, split_after) of a normalizer or a pre_tokenizer."""
        steps: list[Step] = []
        before = after = None
        for step in self._flat(name, list_name, part):
            match step:
                case {"type": "Prepend", "prepend": str(prefix)} if name == "normalizer" and prefix:
                    steps.append(Prepend(prefix))
                case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)} if old:
                    steps.append(Replace(old, new))
                case {"type": "Metaspace", "replacement": str(symbol)} if name == "pre_tokenizer" and len(symbol) == 1:
                    steps.append(Metaspace(symbol, self._prepend_scheme(step)))
                    before = symbol if step.get("split", True) else before
                case {"type": "Split", "pattern": {"String": str(char)}, "behavior": behavior, "invert": False} if len(
                    char
                ) == 1 and behavior in ("MergedWithPrevious", "MergedWithNext"):
                    before, after = (before, char) if behavior == "MergedWithPrevious" else (char, after)
                case _ if name == "normalizer":
                    steps += [Apply(normalizer) for normalizer in read_normalizer(step, self.obstacles)]
                case _:
                    self._refuse(f"{name}: a step", step, "Metaspace, and Split at a character")
        return tuple(steps), before, after

    def _flat(self, name, list_name, part):
        """The steps of a part in which sequences may be nested."""
        if part is None:
            return []
        if isinstance(part, dict) and part.get("type") == "Sequence" and isinstance(part.get(list_name), list):
            return [step for inner in part[list_name] for step in self._flat(name, list_name, inner)]
        return [part]

    def _prepend_scheme(self, step):
        scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")
        if scheme not in SCHEMES:
            self._refuse("prepend_scheme of Metaspace", scheme, ", ".join(SCHEMES))
            return "never"
        return scheme

    def _added_tokens(self, tokens, normalizer: tuple[Step, ...]):
        """The added tokens. Hugging Face's library ignores their ids in the file: model.vocab or the next id counts."""
        added, ids = {}, {}
        listed = self.content.get("added_tokens") or []
        for entry in listed if isinstance(listed, list) else [listed]:
            text = entry.get("content") if isinstance(entry, dict) else None
            if not isinstance(text, str) or not text or text in added or not is_id_table({"id": entry.get("id")}):
                self._refuse("an added token", entry, "an object with a unique content (text) and an id")
                continue
            if wrong := [flag for flag in FLAGS if entry.get(flag) not in (None, False, True)]:
                self._refuse(f"{wrong[0]} of the added token {text!r}", entry[wrong[0]], "true or false")
                continue
            ids[text] = tokens.get(text, max([len(tokens) - 1, *ids.values()]) + 1 if text not in tokens else 0)
            if entry["id"] != ids[text]:
                expected = f"Hugging Face reads it as {ids[text]}"
                self.obstacles.append(f"the added token {text!r} has id {entry['id']}; {expected}")
            flags: dict[str, Any] = {flag: bool(entry.get(flag)) for flag in FLAGS}
            added[text] = AddedToken(text, ids[text], **flags)
        return {normalize(text, normalizer) if token.normalized else text: token for text, token in added.items()}

    def _decoding(self, part):
        """How a decoder turns tokens into text; the order of its steps matters."""
        replaces = fuses = False
        invalid_bytes: InvalidBytes | None = None
        strip: Strip = "none"
        num_spaces, replaces_in_bytes = 0, False
        for step in self._flat("decoder", "decoders", part):
            match step:
                case {"type": "Replace", "pattern": {"String": "▁"}, "content": " "} if strip == "none":
                    replaces, replaces_in_bytes = True, invalid_bytes is not None
                case {"type": "Metaspace", "replacement": "▁"} if strip == "none" and not fuses:
                    replaces, replaces_in_bytes = True, invalid_bytes is not None
                    strip = "none" if self._prepend_scheme(step) == "never" else "first token"
                case {"type": "ByteFallback"} if not fuses and strip != "spaces":
                    invalid_bytes = "run"
                case {"type": "Fuse"}:
                    fuses = True
                case {"type": "Strip", "content": " ", "start": int(num_spaces), "stop": 0} if fuses and replaces:
                    strip = "spaces" if strip == "none" else strip
                case _:
                    self._refuse("decoder: a step", step, "Replace of ▁, ByteFallback, Fuse, Strip and Metaspace")
        if not replaces:
            self.obstacles.append(f"decoder is {part!r:.100}; it must replace ▁ by a space, with Replace or Metaspace")
        return Decoding(invalid_bytes, strip, num_spaces, replaces_in_bytes)


def _replaces_several(step):
    """True if a step may replace several characters: then the library's positions no longer begin with 0."""
    return len(step.old) > 1 if isinstance(step, Replace) else isinstance(step, Apply) and step.is_replacement


def _has_surrogates(content):
    """True if a text in the file cannot be encoded: in a token, or anywhere but in model."""
    try:
        parts = {key: part for key, part in content.items() if key != "model"}
        json.dumps([parts, [*content["model"]["vocab"]]], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (AttributeError, KeyError, TypeError):
        return False  # a part is missing or of another type, which the reader names
    return False


def _as_list(merge):
    return merge if isinstance(merge, list) else ()

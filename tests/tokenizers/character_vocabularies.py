"""Small character-level vocabularies, written by the libraries `tokenizers` and `sentencepiece`, and texts for them."""

import copy
import io
import json
from functools import lru_cache

import sentencepiece
import tokenizers
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, trainers

from npllm.utils import corpora

TEXT = corpora.read("story")[:6000] + " naïve café 日本語 中文 def f(x):\n    return  x\n\n" * 5

ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz ",
    "The quick brown fox, jumps. ",
    "  \n\t\r a",
    "éèüñ e\u0301a\u0301\u0338>",
    "日本語中文字",
    "\U0001f600\U0001f98a\u2764\ufe0f",
    "▁▁ a",
    "<s></s><unk> a",
    "<0x0A><mask><sep>",
    "\x00\x01\x7f\x8f\u200b\ufeff",
    "aaaeee the",
    "\ufb01\u2460\uff71\uff9e\u338f\ufdfa\xa8 \xbd\u212b\uac01\u1100\u1161\u11a8",
    "\uff21\uff22\u3000\xa0\u2003 \u2167\u0345AÉSS ß İ",
)
MARKERS = ("<s>", "</s>", "<mask>", "<sep>", "<w>", " ", "▁", "▁▁", "  ", " the", "\n\n")

texts = st.lists(
    st.sampled_from(ALPHABETS).flatmap(lambda alphabet: st.text(alphabet, max_size=12)) | st.sampled_from(MARKERS),
    max_size=8,
).map("".join)

REPLACE_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
PREPEND = {"type": "Prepend", "prepend": "▁"}
LLAMA_NORMALIZER = {"type": "Sequence", "normalizers": [PREPEND, REPLACE_SPACES]}
REPLACE_SYMBOLS = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
BYTES, FUSE = {"type": "ByteFallback"}, {"type": "Fuse"}
LLAMA_DECODER = {
    "type": "Sequence",
    "decoders": [REPLACE_SYMBOLS, BYTES, FUSE, {"type": "Strip", "content": " ", "start": 1, "stop": 0}],
}
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}},
    ],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {
        "<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
        "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]},
    },
}


@lru_cache
def _trained(unit):
    """The tokenizer.json of a vocabulary of 500 tokens, trained on words, or on whole lines."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    split = ("▁", "merged_with_next") if unit == "words" else ("\n", "merged_with_previous")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(*split)
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer.to_str()


def llama_like(unit="words", byte_tokens=range(256), **model_fields):
    """The content of a tokenizer.json like Llama 2's, small; `model_fields` replace fields of `model`."""
    content = json.loads(_trained(unit))
    vocabulary = content["model"]["vocab"]
    for byte in byte_tokens:
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    content["model"] |= {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"} | model_fields
    content |= {"normalizer": LLAMA_NORMALIZER, "pre_tokenizer": None, "decoder": LLAMA_DECODER}
    return copy.deepcopy(content | {"post_processor": TEMPLATE})


def add_token(content, text, **flags):
    """Add a token to the content of a tokenizer.json, with the id that the library `tokenizers` gives it."""
    added, vocabulary = content["added_tokens"], content["model"]["vocab"]
    next_id = max([len(vocabulary) - 1, *(token["id"] for token in added)]) + 1
    unset = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    added.append({"id": vocabulary.get(text, next_id), "content": text, **unset, **flags})


def trained_model(**options):
    """The content of a *.model with BPE, trained by sentencepiece; `options` of its trainer."""
    options = {"vocab_size": 450, "model_type": "bpe", "hard_vocab_limit": False, "minloglevel": 2} | options
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXT.split("\n")), model_writer=file, **options)
    return file.getvalue()

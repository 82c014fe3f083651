"""Every feature of byte-level tokenizer.json files, on small vocabularies made by Hugging Face's tokenizers.

Ids, text, offsets, batches and saved files are compared with those of the library on texts over mixed alphabets.
"""

import json
import pickle
from functools import lru_cache

import pytest
import tokenizers
from hypothesis import given
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from npllm.tokenizers import BPETokenizer
from npllm.tokenizers.byte_pair import added_tokens
from npllm.tokenizers.formats.hugging_face import from_tokenizer_json, to_tokenizer_json
from npllm.tokenizers.formats.npllm_json import from_npllm_json, to_npllm_json
from npllm.utils import corpora
from tests.tokenizers.mixed_texts import ALPHABETS, mixed_texts

ALPHABET = "".join(sorted(pre_tokenizers.ByteLevel.alphabet()))
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)"
    r"|\s+"
)
DEEPSEEK_V3 = (
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
)


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


PRE_TOKENIZERS = {
    "StarCoder": [pre_tokenizers.Digits(True), GPT2],
    "Falcon": [pre_tokenizers.Punctuation("contiguous"), GPT2, pre_tokenizers.Digits(False), split("[0-9][0-9][0-9]")],
    "BLOOM": [split(r" ?[^(\s|[.,!?…。，、।۔،])]+"), BYTES],
    "DeepSeek V3": [split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK_V3), BYTES],
    "DeepSeek LLM": [
        split("[\r\n]"),
        split(r"\s?\p{L}+"),
        split(r"\s?\p{P}+"),
        split("[一-龥ࠀ-一가-퟿]+"),
        split(r"\s+$"),
        pre_tokenizers.Digits(True),
        BYTES,
    ],
    "Llama 3": [split(LLAMA3, "removed", True), BYTES],
    "merged with the neighbours": [split(r"\s", "merged_with_next"), split("[.,]", "merged_with_previous"), BYTES],
    "a String": [pre_tokenizers.Split(" ", "contiguous"), pre_tokenizers.Split("$", "removed"), BYTES],
    "Whitespace": [pre_tokenizers.Whitespace(), BYTES],
    "WhitespaceSplit": [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.CharDelimiterSplit("x"), BYTES],
    "bytes alone": [BYTES],
    "a space before each text": [pre_tokenizers.ByteLevel(add_prefix_space=True)],
    "a space before each pre-token": [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=True)],
}
NORMALIZERS = {
    "NFC": normalizers.NFC(),
    "NFD": normalizers.NFD(),
    "NFKC": normalizers.NFKC(),
    "NFKD": normalizers.NFKD(),
    "an empty Sequence": normalizers.Sequence([]),
    "a Sequence": normalizers.Sequence([normalizers.Prepend("_"), normalizers.Replace(" ", "__"), normalizers.NFC()]),
    "Replace with a Regex": normalizers.Replace(Regex(r"\s+"), " "),
}
ADDED = {
    "special": [AddedToken("<|x|>", special=True), AddedToken("<|x|>newer", special=True)],
    "normalized": [AddedToken("<|x|>", normalized=True), AddedToken("<|y|>", normalized=False), AddedToken("é|>")],
    "overlapping passes": [AddedToken("x|><|", normalized=True), AddedToken("<|x|>", normalized=False)],
    "lstrip": [AddedToken("<|x|>", lstrip=True, normalized=False), AddedToken("<|y|>", lstrip=True)],
    "rstrip": [AddedToken("<|x|>", rstrip=True, normalized=False), AddedToken("<|y|>", rstrip=True, lstrip=True)],
    "single_word": [AddedToken("lowest", single_word=True), AddedToken("<|x|>", single_word=True, normalized=False)],
    "in the alphabet of bytes": [AddedToken("é"), AddedToken("Ġ"), AddedToken("Ã©|"), AddedToken("á ")],
}


@lru_cache
def trained(pre_tokenizer="", normalizer="", added="", *, alphabet=ALPHABET, ignore=False, **model):
    """(npllm's tokenizer, that of tokenizers) with named components."""
    theirs = tokenizers.Tokenizer(models.BPE(**model))
    theirs.pre_tokenizer = pre_tokenizers.Sequence(PRE_TOKENIZERS[pre_tokenizer]) if pre_tokenizer else GPT2
    theirs.decoder = decoders.ByteLevel()
    theirs.train_from_iterator(
        [corpora.read("story")[:2000], *ALPHABETS, "lowest newer " * 9, "é가ạ" * 5],
        trainers.BpeTrainer(
            vocab_size=420,
            initial_alphabet=list(alphabet),
            limit_alphabet=len(alphabet),
            show_progress=False,
            special_tokens=[model["unk_token"]] if "unk_token" in model else [],
        ),
    )
    if normalizer:
        theirs.normalizer = NORMALIZERS[normalizer]
    for token in ADDED.get(added, []):
        (theirs.add_special_tokens if token.special else theirs.add_tokens)([token])
    content = json.loads(theirs.to_str())
    content["model"]["ignore_merges"] = ignore
    return BPETokenizer(**from_tokenizer_json(content)), tokenizers.Tokenizer.from_str(json.dumps(content))


def compare(ours, theirs, text, offsets=True):
    """Raise AssertionError unless ids, text, offsets and batches are those of the library."""
    expected = theirs.encode(text, add_special_tokens=False)
    every = {"allowed_special": "all"}
    assert ours.encode(text, **every) == expected.ids
    assert ours.decode(expected.ids) == theirs.decode(expected.ids, skip_special_tokens=False)
    assert ours.encode_batch([text, "é", text + "e", "\u0301"], **every)[::2] == [
        expected.ids,
        theirs.encode(text + "e", add_special_tokens=False).ids,
    ]
    ids, found = ours.encode_with_offsets(text, **every)
    assert ids.tolist() == expected.ids
    if offsets:
        assert list(map(tuple, found.tolist())) == expected.offsets
    long = text * 3
    if (vectorized := ours._encoder.vectorized) is not None and ours.encode_ordinary(long):
        ordinary, _ = ours._split(long, frozenset())
        assert list(vectorized.encode_batch(ordinary)) == [ours._encoder.plain.encode(part) for part in ordinary]
    shorter = ours.truncate(text, 3, **every)
    assert text.startswith(shorter)
    assert ours.count(shorter, **every) <= 3


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@given(mixed_texts)
def test_pre_tokenizers(name, text):
    compare(*trained(name), text)


@pytest.mark.parametrize("name", NORMALIZERS)
@given(mixed_texts)
def test_normalizers(name, text):
    compare(*trained("", name, "special"), text)


@pytest.mark.parametrize("normalizer", ["", "NFC"])
@pytest.mark.parametrize("name", ADDED)
@given(mixed_texts)
def test_added_tokens(name, normalizer, text):
    compare(*trained("", normalizer, name), text)


@pytest.mark.parametrize("name", ["DeepSeek V3", "a space before each text"])
@given(mixed_texts)
def test_steps_with_a_normalizer_and_added_tokens(name, text):
    compare(*trained(name, "NFKC", "normalized"), text)


WITHOUT = sorted(set(ALPHABET) - set("\u0104\u0106\u011b\u013f" + "x!5Ìģ"))


@pytest.mark.parametrize("model", [{}, {"unk_token": "<unk>"}, {"unk_token": "<unk>", "fuse_unk": True}])
@given(mixed_texts)
def test_vocabularies_without_some_bytes(model, text):
    ours, theirs = trained(alphabet="".join(WITHOUT), **model)
    assert ours._encoder.plain.missing
    compare(ours, theirs, text, offsets=False)
    _, offsets = ours.encode_with_offsets(text, allowed_special="all")
    assert (offsets[:, 0] < offsets[:, 1]).all()
    assert (offsets <= len(text)).all()
    assert (offsets[:-1, 0] <= offsets[1:, 0]).all()


def test_a_byte_without_a_token():
    ours, _ = trained(alphabet="".join(WITHOUT))
    with pytest.raises(ValueError, match="data has the byte 120, which has no token"):
        ours.encode_bytes(b"ax")
    assert ours.encode("axa") == ours.encode("aa")
    assert ours.encode_with_offsets("axa")[1].tolist()[-1] == [0 if len(ours.encode("aa")) == 1 else 2, 3]
    assert ours.decode(ours.encode("axa")) == "aa"


@pytest.mark.parametrize("ignore_merges", [False, True])
@given(mixed_texts)
def test_tokens_that_no_merges_produce(ignore_merges, text):
    ours, theirs = with_unreachable_tokens(ignore_merges)
    compare(ours, theirs, text + " xyz")
    assert (ours.encode(" xyz")[-1] == 1000) == ignore_merges
    assert ours.decode([1000, 1001, 1002]) == " xyzzzz"
    assert back_and_forth(ours).encode(" xyz") == ours.encode(" xyz")


@lru_cache
def with_unreachable_tokens(ignore_merges):
    content = json.loads(trained()[1].to_str())
    content["model"]["vocab"] |= {"Ġxyz": 1000, "zz": 1001, "z": 1002, "<pad>": 1003}
    content["model"]["ignore_merges"] = ignore_merges
    content["model"]["merges"] = [merge for merge in content["model"]["merges"] if "z" not in "".join(merge)]
    kept = {"".join(merge) for merge in content["model"]["merges"]}
    content["model"]["vocab"] = {
        token: token_id
        for token, token_id in content["model"]["vocab"].items()
        if len(token) == 1 or token in kept or token_id >= 1000
    }
    return BPETokenizer(**from_tokenizer_json(content)), tokenizers.Tokenizer.from_str(json.dumps(content))


def template(*names):
    return processors.TemplateProcessing(" ".join(names), special_tokens=[("<|x|>", 420), ("<|x|>newer", 421)])


POST_PROCESSORS = {
    "a template": template("<|x|>", "$A"),
    "on both sides": template("<|x|>", "$A", "<|x|>newer", "<|x|>"),
    "RoBERTa": processors.RobertaProcessing(("<|x|>newer", 421), ("<|x|>", 420), False, False),
    "RoBERTa, trimmed": processors.RobertaProcessing(("<|x|>newer", 421), ("<|x|>", 420), True, False),
    "BERT": processors.BertProcessing(("<|x|>", 420), ("<|x|>newer", 421)),
    "bytes": processors.ByteLevel(trim_offsets=False),
    "bytes, trimmed": processors.ByteLevel(trim_offsets=True, add_prefix_space=False),
    "bytes, trimmed but the prefix": processors.ByteLevel(trim_offsets=True, add_prefix_space=True),
    "a Sequence": processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), template("<|x|>", "$A", "<|x|>newer")]
    ),
}


@pytest.mark.parametrize("name", POST_PROCESSORS)
@given(mixed_texts)
def test_post_processors(name, text):
    ours, theirs = with_post_processor(name)
    for _ in range(2):
        assert ours.encode(text, allowed_special="all", add_special_tokens=True) == theirs.encode(text).ids
        ids, offsets = ours.encode_with_offsets(text, allowed_special="all", add_special_tokens=True)
        assert ids.tolist() == theirs.encode(text).ids
        assert list(map(tuple, offsets.tolist())) == theirs.encode(text).offsets
        assert ours.encode_batch([text], allowed_special="all", add_special_tokens=True) == [theirs.encode(text).ids]
        assert ours.count(text, allowed_special="all", add_special_tokens=True) == len(theirs.encode(text).ids)
        num_added = len(ours.prefix_ids + ours.suffix_ids)
        shorter = ours.truncate(text, 2 + num_added, allowed_special="all", add_special_tokens=True)
        assert ours.count(shorter, allowed_special="all") <= 2
        ours = back_and_forth(ours)


@lru_cache
def with_post_processor(name):
    content = json.loads(trained(added="special")[1].to_str())
    theirs = tokenizers.Tokenizer.from_str(json.dumps(content))
    assert theirs.token_to_id("<|x|>") == 420
    theirs.post_processor = POST_PROCESSORS[name]
    return BPETokenizer(**from_tokenizer_json(json.loads(theirs.to_str()))), theirs


def back_and_forth(tokenizer):
    """The tokenizer after it is written to and read from npllm's format, and a pickle."""
    content = json.loads(json.dumps(to_npllm_json(tokenizer)))
    return pickle.loads(pickle.dumps(BPETokenizer(**from_npllm_json(content))))


EVERYTHING = [
    *({"pre_tokenizer": name} for name in PRE_TOKENIZERS),
    *({"normalizer": name, "added": "normalized"} for name in NORMALIZERS),
    *({"added": name} for name in ADDED),
    {"alphabet": "".join(WITHOUT)},
    {"alphabet": "".join(WITHOUT), "unk_token": "<unk>", "fuse_unk": True},
    {"ignore": True},
]


@pytest.mark.parametrize("features", EVERYTHING, ids=str)
@given(mixed_texts)
def test_what_is_saved_is_read_by_the_library_and_by_npllm(features, text):
    ours, theirs = trained(**features)
    saved, again, own = saved_and_read(json.dumps(features))
    expected = theirs.encode(text, add_special_tokens=False)
    assert saved.encode(text, add_special_tokens=False).ids == expected.ids
    assert saved.decode(expected.ids, skip_special_tokens=False) == theirs.decode(
        expected.ids, skip_special_tokens=False
    )
    for read in (again, own):
        assert read.encode(text, allowed_special="all") == ours.encode(text, allowed_special="all")
        assert read.decode(expected.ids) == ours.decode(expected.ids)
        assert read.pattern == ours.pattern
        assert read.added_tokens == ours.added_tokens


@lru_cache
def saved_and_read(features):
    ours, _ = trained(**json.loads(features))
    content = to_tokenizer_json(ours)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(content))
    return theirs, BPETokenizer(**from_tokenizer_json(content)), back_and_forth(ours)


def test_all_obstacles_are_named_at_once():
    content = json.loads(trained()[1].to_str())
    content |= {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, {"type": "BertNormalizer"}]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "_"},
        "post_processor": {"type": "Other"},
        "decoder": {"type": "WordPiece"},
        "truncation": {"max_length": 3},
    }
    content["model"] |= {"type": "Unigram", "byte_fallback": True, "dropout": 0.5}
    with pytest.raises(ValueError) as caught:
        from_tokenizer_json(content)
    for obstacle in (
        "type of model is 'Unigram', a Unigram model (SentencePiece)",
        "truncation of the file",
        "dropout of model is 0.5",
        "byte_fallback of model is True",
        "normalizer is Lowercase",
        "normalizer is BertNormalizer",
        "pre_tokenizer is Metaspace",
        "post_processor is {'type': 'Other'}",
        "decoder is WordPiece",
    ):
        assert obstacle in str(caught.value)


def test_added_tokens_that_are_not_special_are_always_found():
    ours, theirs = trained(added="normalized")
    assert ours.encode_ordinary("a<|y|>b") == ours.encode("a<|y|>b") == theirs.encode("a<|y|>b").ids
    with pytest.raises(ValueError, match="the text contains the special token '<.y.>'"):
        ours.encode("a<|y|>b", disallowed_special={"<|y|>"})
    special, _ = trained(added="special")
    with pytest.raises(ValueError, match="the text contains the special token"):
        special.encode("a<|x|>b")
    assert special.encode_ordinary("a<|x|>b") == special.encode("a<|x|>b", disallowed_special=())


def test_a_special_token_that_is_normalized_is_refused_in_each_of_its_spellings():
    ours = BPETokenizer(
        trained()[0].ranks,
        normalizer="NFKC",
        added_tokens=[npllm_token("<ABC>", 999, normalized=True), npllm_token("low", 998, single_word=True)],
    )
    for text in ("<ABC>", "＜ABC>", "<ＡBC>", "a low", "low!"):
        with pytest.raises(ValueError, match="the text contains the special token"):
            ours.encode(text)
        assert ours.encode(text, allowed_special="all") != ours.encode_ordinary(text)
    assert ours.encode("lower") == ours.encode_ordinary("lower")


def npllm_token(*arguments, **options):
    return added_tokens.AddedToken(*arguments, **options)


def test_load_with_a_normalizer(tmp_path):
    trained()[0].save(tmp_path / "v.json")
    ours = BPETokenizer.load(tmp_path / "v.json", normalizer="NFC")
    assert ours.encode("e\u0301") == ours.encode("é") != trained()[0].encode("e\u0301")
    assert ours.decode(ours.encode("e\u0301")) == "é"
    with pytest.raises(ValueError, match="normalizer is 'NFX'; it must be one of NFC, NFD, NFKC, NFKD"):
        BPETokenizer.load(tmp_path / "v.json", normalizer="NFX")

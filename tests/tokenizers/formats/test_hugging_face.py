"""tokenizer.json, opened by Hugging Face's tokenizers and transformers."""

import copy
import json
import random
from functools import lru_cache

import pytest
import tokenizers
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from npllm.tokenizers import PATTERNS, BPETokenizer, train_bpe
from npllm.tokenizers.byte_pair.added_tokens import AddedToken
from npllm.tokenizers.byte_pair.bytes_to_unicode import token_to_unicode
from npllm.tokenizers.byte_pair.pretokenize import pretokenize
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.formats.hugging_face import from_tokenizer_json, to_tokenizer_json
from npllm.tokenizers.formats.oniguruma import to_oniguruma
from npllm.tokenizers.vectorized.merge_tree import reachable_merges
from tests.strategies import texts
from tests.tokenizers.fuzzing import random_ranks
from tests.tokenizers.peers import gpt2, plain_texts, trained

EVERY = {"disallowed_special": ()}
# as in the tokenizer.json of Llama 3
LLAMA3_PATTERN = (
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
    r"""|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
STRANGE_PATTERNS = [r"\p{L}+", r"[ab]+|c+$", r"a(?!b)|[^\sa]{1,2}", r"(?i:[sdmt]|ll|ve|re)|\S+?\.|\s+$", r"\$|[$\-\]]+"]
STORY = "low lower lowest new newer newest\n" * 3 + "naïve café 日本, 123's"


def opened(content):
    """The tokenizer that Hugging Face's library reads from the content of a file."""
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def loaded(content):
    return BPETokenizer(**from_tokenizer_json(content))


def same(one, other):
    return (one.ranks, one.pattern, one.special_tokens) == (other.ranks, other.pattern, other.special_tokens)


def their_trained(text=STORY, vocab_size=300, pre_tokenizer=None, special_tokens=("<|x|>",)):
    """A vocabulary trained and written by the library `tokenizers`."""
    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizer or pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator([text], trainer)
    return theirs


def split_by(pattern, behavior="isolated", invert=False):
    split = pre_tokenizers.Split(Regex(pattern), behavior, invert)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


@lru_cache
def libraries(name):
    """(ours, read by tokenizers, content of the file) for GPT-2's vocabulary, or for one trained with a pattern."""
    ours = gpt2() if name == "GPT-2 itself" else trained(name)
    content = to_tokenizer_json(ours)
    return ours, opened(content), content


class TestSaved:
    @pytest.mark.parametrize("name", ["GPT-2 itself", *PATTERNS])
    @given(plain_texts)
    def test_tokenizers_gives_the_same_ids_offsets_and_text(self, name, text):
        ours, theirs, _ = libraries(name)
        ids, offsets = ours.encode_with_offsets(text, allowed_special="all")
        encoding = theirs.encode(text)
        assert encoding.ids == ids.tolist()
        assert encoding.offsets == list(map(tuple, offsets.tolist()))
        assert theirs.decode(encoding.ids, skip_special_tokens=False) == text

    @pytest.mark.parametrize("name", PATTERNS)
    def test_the_ids_of_a_long_text(self, name, story):
        ours, theirs, _ = libraries(name)
        assert theirs.encode(story).ids == ours.encode(story)

    @pytest.mark.parametrize("name", ["GPT-2 itself", *PATTERNS])
    def test_transformers_reads_it(self, name, story, tmp_path):
        ours, _, _ = libraries(name)
        ours.save(tmp_path / "tokenizer.json")
        theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
        text = story[:3000] + "<|endoftext|>  naïve\n"
        ids = ours.encode(text, allowed_special="all")
        assert theirs.encode(text) == ids
        assert theirs.decode(ids) == text

    @pytest.mark.parametrize("name", ["GPT-2 itself", *PATTERNS])
    def test_round_trip(self, name, tmp_path):
        ours, _, _ = libraries(name)
        ours.save(tmp_path / "tokenizer.json")
        ours.save(tmp_path / "own.json")
        (tmp_path / "tokenizer.json").rename(tmp_path / "theirs.json")
        assert same(BPETokenizer.load(tmp_path / "theirs.json"), ours)  # the content counts, not the name
        assert same(BPETokenizer.load(tmp_path / "own.json"), ours)

    def test_gpt2s_merges_are_those_of_its_file(self):
        merges = [[token_to_unicode(left), token_to_unicode(right)] for left, right in gpt2()._merges]
        assert libraries("GPT-2 itself")[2]["model"]["merges"] == merges

    @given(texts, st.integers(0, 50), st.sampled_from([*PATTERNS.values(), *STRANGE_PATTERNS]), plain_texts)
    def test_trained_vocabularies(self, training_text, merges, pattern, text):
        ours = train_bpe(training_text, 258 + merges, pattern, special_tokens=["<|x|>", "naïve a"])
        content = to_tokenizer_json(ours)
        assert same(loaded(content), ours)
        text += "<|x|>naïve anaïve" + text
        assert opened(content).encode(text).ids == ours.encode(text, allowed_special="all")

    @given(st.integers(0, 1 << 32), st.lists(st.text("abcd", max_size=40), max_size=20), st.booleans())
    def test_tokens_of_lower_rank_than_their_parts_and_unreachable_tokens(self, seed, words, shuffled):
        draw = random.Random(seed)
        ranks = random_ranks(draw)
        if shuffled:
            ids = draw.sample(range(10_000), len(ranks))
            ranks = dict(zip(ranks, ids))
        ours = BPETokenizer(ranks, special_tokens={"<|x|>": 20_000})
        content = to_tokenizer_json(ours)
        theirs = opened(content)
        for text in (" ".join(words), *words, *(token.decode() for token in ranks if token.isascii())):
            assert theirs.encode(text).ids == ours.encode(text)
        assert same(loaded(content), ours)
        made = {left + right for left, right in reachable_merges(ranks)}
        assert content["model"]["ignore_merges"] == any(len(token) > 1 and token not in made for token in ranks)

    def test_a_special_token_with_the_spelling_of_a_token_is_refused(self, tmp_path):
        for special in ("a", "Ġ", "Ġl"):
            ours = BPETokenizer({**train_bpe(STORY, 300).ranks, b" l": 400}, special_tokens={special: 500})
            with pytest.raises(ValueError, match=f"cannot distinguish the special token '{special}' from a token"):
                ours.save(tmp_path / "tokenizer.json")
        assert not list(tmp_path.iterdir())

    def test_a_special_token_with_the_spelling_of_a_pretoken_is_refused(self):
        ranks = train_bpe("ab ab", 257).ranks
        written_in_bytes = AddedToken("Ġx", 500, data=b" x")
        theirs = opened(to_tokenizer_json(BPETokenizer(ranks, added_tokens=[written_in_bytes])))
        assert theirs.encode(" x").ids == [32, 120]
        assert theirs.decode([500], skip_special_tokens=False) == " x"
        with pytest.raises(ValueError, match="cannot distinguish the special token 'Ġx' from ordinary text"):
            to_tokenizer_json(BPETokenizer({**ranks, b"xyz": 400}, added_tokens=[written_in_bytes]))
        with pytest.raises(ValueError, match="cannot express the special token 'Ġx': it would be decoded as b' x'"):
            to_tokenizer_json(BPETokenizer(ranks, special_tokens={"Ġx": 500}))


class TestLoaded:
    @given(texts, plain_texts, st.integers(0, 60), st.sampled_from([None, LLAMA3_PATTERN, *PATTERNS.values()]))
    def test_round_trip_of_a_vocabulary_trained_by_tokenizers(self, training_text, text, merges, pattern):
        if pattern is not None:
            pattern = to_oniguruma(pattern)
        theirs = their_trained(replace_surrogates(training_text), 257 + merges, pattern and split_by(pattern))
        ours = loaded(json.loads(theirs.to_str()))
        assert ours.encode(text, **EVERY) == theirs.encode(text).ids
        text = f"{text}<|x|>{text}"
        assert ours.encode(text, allowed_special="all") == theirs.encode(text).ids
        back = opened(to_tokenizer_json(ours))
        assert back.encode(text).ids == theirs.encode(text).ids
        assert back.get_vocab() == theirs.get_vocab()

    @pytest.mark.parametrize("name", PATTERNS)
    def test_the_pattern_is_recognized(self, name):
        content = json.loads(their_trained(pre_tokenizer=split_by(to_oniguruma(PATTERNS[name]))).to_str())
        assert loaded(content).pattern == PATTERNS[name]

    def test_llama_3s_pattern_differs_from_gpt_4s(self):
        text = "a\n "  # GPT-4's last pre-token is all of the whitespace
        assert pretokenize(text, LLAMA3_PATTERN) == ["a", "\n", " "]
        assert pretokenize(text, PATTERNS["cl100k"]) == ["a", "\n "]

    @given(plain_texts | st.text("abc$. \n", max_size=20), st.sampled_from(STRANGE_PATTERNS), st.booleans())
    def test_text_that_the_pattern_leaves_out(self, text, pattern, removed):
        split = split_by(to_oniguruma(pattern), *(("removed", True) if removed else ("isolated",)))
        theirs = their_trained(pre_tokenizer=split, special_tokens=[])
        content = json.loads(theirs.to_str())
        ours = loaded(content)
        assert (ours.pattern == pattern) == removed
        assert ours.encode(text) == theirs.encode(text).ids
        assert same(loaded(to_tokenizer_json(ours)), ours)

    def test_the_syntax_of_older_files(self):
        ours, _, content = libraries("GPT-2 itself")
        content = copy.deepcopy(content)
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
        for key in ("ignore_merges", "byte_fallback", "type"):
            del content["model"][key]
        content["model"] |= {"continuing_subword_prefix": "", "end_of_word_suffix": "", "unk_token": "<|endoftext|>"}
        content["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
        content["post_processor"] = content["pre_tokenizer"]
        assert same(loaded(content), ours)

    def test_a_post_processor_is_ignored(self):
        theirs = their_trained()
        theirs.post_processor = tokenizers.processors.TemplateProcessing("<|x|> $A", special_tokens=[("<|x|>", 0)])
        ours = loaded(json.loads(theirs.to_str()))
        assert theirs.encode("low").ids == [0, *ours.encode("low")]
        assert theirs.encode("low", add_special_tokens=False).ids == ours.encode("low")

    def test_all_added_tokens_become_special_tokens(self):
        theirs = their_trained()
        theirs.add_tokens(["lowest", tokenizers.AddedToken("new", normalized=False)])
        theirs.add_special_tokens(["<|y|>"])
        ours = loaded(json.loads(theirs.to_str()))
        assert ours.special_tokens.keys() == {"<|x|>", "lowest", "new", "<|y|>"}
        text = "the lowest<|y|>newer"
        assert ours.encode(text, allowed_special="all") == theirs.encode(text).ids

    def test_unreachable_merges_change_nothing(self):
        ours = BPETokenizer({bytes([byte]): byte for byte in range(256)} | {b"bc": 256, b"ab": 257, b"abc": 258})
        content = to_tokenizer_json(ours)
        assert content["model"]["merges"] == [["b", "c"], ["a", "b"], ["a", "bc"]]
        content["model"]["merges"].insert(0, ["ab", "c"])
        assert same(loaded(content), ours)
        for text in ("abc", "aabcc", "abcabcab", "bcab"):
            assert opened(content).encode(text).ids == ours.encode(text)


def changed(path, value):
    """A valid file with one thing changed; the path is written with dots."""
    content = json.loads(their_trained().to_str())
    *way, last = path.split(".")
    part = content
    for key in way:
        part = part[int(key) if isinstance(part, list) else key]
    part[int(last) if isinstance(part, list) else last] = value(part[last]) if callable(value) else value
    return content


def without(table, key):
    return {name: value for name, value in table.items() if name != key}


BYTES_ALONE = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
SPLIT = {"type": "Split", "pattern": {"Regex": "a|[^a]"}, "behavior": "Isolated", "invert": False}


def sequence(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("normalizer", {"type": "Lowercase"}, "normalizer is Lowercase; npllm can read NFC, NFD, NFKC, NFKD, Prepend"),
        ("normalizer", {"type": "Prepend"}, "normalizer is Prepend"),
        ("normalizer", 3, "normalizer is 3; npllm can read"),
        ("truncation", {"max_length": 3}, "truncation of the file is"),
        ("padding", {"strategy": {"Fixed": 8}}, "padding of the file is"),
        ("padding", {"strategy": "BatchLongest", "pad_to_multiple_of": 8}, "padding of the file is"),
        ("model", [], r"model is \[\]; it must be a JSON object"),
        ("model.type", "WordPiece", "type of model is 'WordPiece', WordPiece .BERT.; npllm can read null or \"BPE\""),
        ("model.type", "Unigram", "type of model is 'Unigram', a Unigram model .SentencePiece."),
        ("model.dropout", 0.1, "dropout of model is 0.1"),
        ("model.continuing_subword_prefix", "##", "continuing_subword_prefix of model is '##'"),
        ("model.end_of_word_suffix", "</w>", "end_of_word_suffix of model is '</w>'; npllm can read null or \"\""),
        ("model.byte_fallback", True, "byte_fallback of model is True; npllm can read null or false"),
        ("model.ignore_merges", 3, "ignore_merges of model is 3"),
        ("model.vocab", ["a"], "model.vocab must be an object"),
        ("model.vocab.a", -1, "model.vocab must be an object"),
        ("model.vocab.▁a", 1000, "'▁' in '▁a' represents no byte"),
        ("model.vocab", {}, "model.vocab has no token for a single byte|assigns one id"),
        ("model.fuse_unk", 1.5, "fuse_unk of model is 1.5; npllm can read null or false or true"),
        ("model.vocab.z", 1, "assigns one id to several tokens"),
        ("model.merges", None, "model.merges is None; it must be a list"),
        ("model.merges.0", "a b c", "each must be two tokens"),
        ("model.merges.0", ["l", 1], "each must be two tokens"),
        ("model.merges.0", ["z", "z"], "model.merges uses 'zz', which is missing from model.vocab"),
        (
            "model.merges",
            lambda merges: merges[::-1],
            "ids of model.vocab do not increase in the order",
        ),
        ("decoder", {"type": "Metaspace"}, "decoder is Metaspace; npllm can read ByteLevel"),
        ("pre_tokenizer", None, "pre_tokenizer is None; npllm can read one that has ByteLevel once"),
        (
            "pre_tokenizer",
            sequence(BYTES_ALONE, BYTES_ALONE),
            "is Sequence of ByteLevel, ByteLevel; npllm can",
        ),
        ("pre_tokenizer.add_prefix_space", 1, "pre_tokenizer has {'type': 'ByteLevel', 'add_prefix_space': 1"),
        ("pre_tokenizer.use_regex", None, "pre_tokenizer has {'type': 'ByteLevel'"),
        ("pre_tokenizer", {"type": "Whitespace"}, "pre_tokenizer is Whitespace; npllm can read one that has ByteLevel"),
        (
            "pre_tokenizer",
            sequence({"type": "Metaspace"}, BYTES_ALONE),
            "pre_tokenizer has {'type': 'Metaspace'}",
        ),
        ("pre_tokenizer", sequence(SPLIT | {"behavior": "removed"}, BYTES_ALONE), "pre_tokenizer has {'type': 'Split'"),
        ("pre_tokenizer", sequence(SPLIT | {"pattern": {"String": ""}}, BYTES_ALONE), "must be a Regex or a String"),
        ("pre_tokenizer", sequence(SPLIT | {"pattern": {"Regex": "(a"}}, BYTES_ALONE), "a regular expression"),
        ("pre_tokenizer", sequence(SPLIT | {"pattern": {"Regex": "a*"}}, BYTES_ALONE), "must not match the empty text"),
        ("post_processor", {"type": "TemplateProcessing"}, "post_processor is {'type': 'TemplateProcessing'}"),
        ("decoder", sequence(BYTES_ALONE), "decoder is Sequence"),
        ("added_tokens", 1, "added_tokens is 1; it must be a list"),
        ("added_tokens.0", "x", "added_tokens has 'x'; each must have a unique content"),
        ("added_tokens.0.lstrip", 2, "lstrip of the added token '<.x.>' is 2; it must be true or false"),
        ("added_tokens.0.content", 5, "each must have a unique content"),
        ("added_tokens.0.id", 7, r"added token '<\|x\|>' has id 7; Hugging Face reads it as 0"),
        ("added_tokens.0.content", "<|z|>", r"added token '<\|z\|>' has id 0; Hugging Face reads it as 291"),
        ("added_tokens", lambda tokens: tokens * 2, "a unique content"),
    ],
)
def test_files_that_would_give_other_ids_are_refused(tmp_path, path, value, message):
    (tmp_path / "v.json").write_text(json.dumps(changed(path, value)))
    with pytest.raises(ValueError, match=message) as caught:
        BPETokenizer.load(tmp_path / "v.json")
    assert str(caught.value).startswith(str(tmp_path / "v.json"))


LEAVES = [None, True, False, 0, 1, 2, 10**30, -1, 0.5, "", "a", "ab", "Ġ", "\ud800", "BPE",
          "ByteLevel", "Split", "Removed", "a|b"]  # fmt: skip
json_values = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "id", "model", "a"]), inner),
    max_leaves=4,
)


@st.composite
def corrupted(draw):
    """A valid file with one to three parts replaced, removed, or exchanged for another part."""
    content = json.loads(their_trained(pre_tokenizer=draw(st.sampled_from([None, split_by("a|[^a]+")]))).to_str())
    for _ in range(draw(st.integers(1, 3))):
        part, key = {"the file": content}, "the file"
        while isinstance(part[key], (dict, list)) and part[key] and draw(st.integers(0, 5)):
            part = part[key]
            key = draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
        if key == "the file":
            continue
        what = draw(st.sampled_from(["replace", "remove", "exchange"]))
        if what == "replace":
            part[key] = draw(json_values)
        elif what == "remove":
            del part[key]
        else:
            other = draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
            part[key], part[other] = part[other], part[key]
    return content


@given(corrupted(), plain_texts)
def test_a_corrupted_file_is_refused_or_read_as_tokenizers_reads_it(tmp_path_factory, content, text):
    path = tmp_path_factory.mktemp("corrupted") / "v.json"
    path.write_text(json.dumps(content))
    try:
        ours = BPETokenizer.load(path)
    except ValueError:
        return
    try:
        theirs = tokenizers.Tokenizer.from_file(str(path))
    except Exception:  # it is stricter about fields that do not affect the ids
        return
    for part in (text, "lower newest low<|x|>est", "l lo low Ġ", "naïve naïve"):
        assert theirs.encode(part, add_special_tokens=False).ids == ours.encode(part, allowed_special="all")


@given(st.text(max_size=30) | json_values.map(json.dumps))
def test_any_other_json_raises_value_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("corrupted") / "tokenizer.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError):
        BPETokenizer.load(path)

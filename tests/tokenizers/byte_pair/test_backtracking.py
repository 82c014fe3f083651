import pytest

from npllm.tokenizers import BPETokenizer, train_bpe
from npllm.tokenizers.byte_pair.backtracking import check_pattern, check_patterns
from npllm.tokenizers.byte_pair.pre_tokenizers import Split
from npllm.tokenizers.byte_pair.pretokenize import PATTERNS
from npllm.utils.file_errors import FileError


@pytest.mark.parametrize(
    "pattern", [*PATTERNS.values(), r"\S+|\s+", r"(?:ab)+", r"\p{N}{1,3}(?=(?:\d\d\d)*\b|x)", "a?b*c"]
)
def test_published_patterns_and_simple_ones_are_accepted(pattern):
    check_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+b", "(a*)*", "(?:a|a)*b", "(?:a|ab)+c", "(a?){64}b", "(a{1,9}){1,9}", "((ab)*c)*", "a*a*a*b",
     "a?" * 30 + "b", "(?=(a+)+b)x", "a{0,1000}a{0,1000}a{0,1000}b", "(?:x(a+)?){2,}"],
)  # fmt: skip
def test_patterns_that_may_take_exponential_time_are_refused(pattern):
    with pytest.raises(ValueError, match="may take"):
        check_pattern(pattern)
    with pytest.raises(ValueError, match="may take"):
        check_patterns([Split("x"), Split(f"y|{pattern}z")])


@pytest.mark.parametrize("name", ["v.json", "tokenizer.json"])
def test_a_file_with_such_a_pattern_is_refused_and_a_pattern_of_the_caller_replaces_it(tmp_path, name):
    tokenizer = train_bpe("a few words", 260, pattern="x|(?:a+)+b")
    tokenizer.save(tmp_path / name)
    with pytest.raises(FileError, match=rf"{name} .*may take exponential time"):
        BPETokenizer.load(tmp_path / name)
    assert BPETokenizer.load(tmp_path / name, "gpt2").encode("few") == [102, 101, 119]

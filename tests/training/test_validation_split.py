import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.models import GPTConfig
from npllm.tokenizers import train_bpe
from npllm.training import TrainingConfig, create_run
from npllm.training.validation_split import split_position

END = 9


@given(st.lists(st.sampled_from([1, 2, 3, END]), min_size=1, max_size=300), st.floats(0.01, 0.99))
def test_the_split_is_behind_the_nearest_end_token_within_half_a_part(ids, fraction):
    ids = np.array(ids)
    wanted, margin = int(len(ids) * (1.0 - fraction)), int(len(ids) * fraction / 2)
    candidates = [i for i in range(1, len(ids) + 1) if ids[i - 1] == END and -margin < i - wanted <= margin]
    expected = min(candidates, key=lambda i: abs(i - wanted), default=wanted)
    assert abs(split_position(ids, fraction, END) - wanted) == abs(expected - wanted)
    assert split_position(ids, fraction) == wanted
    if candidates:
        assert ids[split_position(ids, fraction, END) - 1] == END


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_invalid_fractions(fraction):
    with pytest.raises(ValueError, match="validation_fraction is"):
        split_position(np.arange(9), fraction)


def test_a_special_token_at_the_split_stays_one_token(tmp_path):
    tokenizer = train_bpe("abcd " * 50, vocab_size=258, special_tokens=["<|endoftext|>"])
    text = "abcd " * 18 + "<|endoftext|>" + "abcd " * 2
    config = GPTConfig(tokenizer.vocab_size, 4, 8, 1, 1)
    run = create_run(tmp_path / "run", text, tokenizer, config, TrainingConfig(num_steps=1, batch_size=1))
    train, validation = (np.asarray(data.ids) for data in (run.trainer.batches.dataset, run.trainer.validation))
    assert (train == 257).sum() == 1 and train[-1] == 257 and 257 not in validation
    assert tokenizer.decode([*train, *validation]) == text
    assert tokenizer.decode(validation) == "abcd abcd "

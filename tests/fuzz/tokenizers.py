"""Random texts against tiktoken, or against plain BPE: the rounds of tests/tokenizers/fuzzing.py in full length."""

from tests.tokenizers import fuzzing

ROUNDS = {name: check for name, (check, _) in fuzzing.ROUNDS.items()}

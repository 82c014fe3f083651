"""The runner: rounds in turn, findings written with what repeats them."""

import json

import numpy as np
import pytest

from tests.fuzz import __main__ as command
from tests.fuzz.runner import Finding, run


def fails_on_small(rng):
    number = int(rng.integers(100))
    if number < 50:
        raise Finding(f"{number} is below 50", {"number": number})
    return 1


def test_a_finding_is_recorded_with_its_case_and_seed(tmp_path, capsys):
    seed = next(s for s in range(100) if np.random.default_rng(s).integers(100) < 50)
    assert run("numbers", {"fine": lambda rng: 3, "small": fails_on_small}, seed, 0, False, tmp_path)
    out = capsys.readouterr().out
    assert f"--rounds 'small' --seed {seed} --minutes 0" in out and "3 cases" in out
    [path] = tmp_path.glob("*.json")
    assert json.loads(path.read_text()) == {"number": int(np.random.default_rng(seed).integers(100))}


def test_with_keep_going_each_kind_is_reported_once(tmp_path, capsys):
    findings = run("numbers", {"small": fails_on_small}, 0, 0.003, True, tmp_path)
    assert list(findings) == ["small: Finding # is below #"]
    assert capsys.readouterr().out.count("repeat with") == 1


def test_every_subject_has_rounds_of_distinct_names():
    for subject in command.MODULES:
        command.rounds_of(subject)
    assert {"random strings", "long pre-tokens"} <= command.rounds_of("tokenizers").keys()


def test_an_unknown_round_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as error:
        command.main(["tokenizers", "--rounds", "colours"])
    assert error.value.code == 2 and "no round 'colours'; the rounds are 'random strings'" in capsys.readouterr().err

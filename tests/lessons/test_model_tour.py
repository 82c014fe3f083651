"""The tour of a published model: its sections, their numbers, and prompts that it cannot take."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from npllm.cli.main import main
from npllm.lessons.tour.published import SECTIONS, run_model_tour
from npllm.models.pretrained import open_pretrained
from tests.cli.published import TEMPLATE, make_folder, make_tokenizer

PROMPT = "The capital of Italy is"


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return open_pretrained(make_folder(tmp_path_factory.mktemp("published")))


def tour(pretrained, prompt=PROMPT, width=100):
    """What the tour prints."""
    out = io.StringIO()
    run_model_tour(Console(file=out, width=width), pretrained, prompt)
    return out.getvalue()


def test_every_section_has_a_heading_in_order(pretrained):
    heads = [line.split()[0] for line in tour(pretrained).split("\n") if re.match(r"\d+  \S.* ───", line)]
    assert heads == [str(number) for number in range(1, len(SECTIONS) + 1)]


def test_printed_numbers_are_those_of_the_model(pretrained):
    printed = tour(pretrained)
    ids = make_tokenizer().encode(PROMPT).ids
    assert f"{len(PROMPT)} bytes → {len(ids)} ids below" in printed
    logits = pretrained.model(np.array(ids))[-1].astype(np.float64)
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert f"{logits.max():.2f}" in printed and f"{probabilities.max():.1%}" in printed
    assert f"{pretrained.model.num_parameters():,} parameters, 2 heads in each block" in printed
    assert f"{2 * 2 * 16 * 4 / 1024:.1f} KiB for each token" in printed.replace("\n", " "), "2 layers, keys and values"
    assert "> What is the capital of France?" in printed


def test_a_model_without_a_template_has_no_question(tmp_path):
    assert "> What is" not in tour(open_pretrained(make_folder(tmp_path, template=None)))


@pytest.mark.parametrize("width", [80, 60])
def test_no_line_is_wider_than_the_terminal(pretrained, width):
    assert max(map(len, tour(pretrained, width=width).split("\n"))) <= width


def test_the_command(tmp_path, capsys):
    folder = make_folder(tmp_path, template=TEMPLATE)
    assert main(["tour", "--model", str(folder), "--prompt", PROMPT]) == 0
    out = capsys.readouterr().out
    assert out.startswith("BLAS threads: 1\n") and "7  generation" in out
    with pytest.raises(SystemExit):
        main(["tour", "--model", str(folder), "--steps", "3"])
    assert "--steps has no effect with --model" in capsys.readouterr().err


@pytest.mark.parametrize("prompt", ["a", "", "word " * 100])
def test_prompts_that_are_too_short_or_too_long(pretrained, prompt):
    with pytest.raises(ValueError, match="prompt is .*; its number of tokens is .* and must be from 3 to 64"):
        tour(pretrained, prompt)

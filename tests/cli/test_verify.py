import io

import numpy as np
import pytest
from rich.console import Console

from npllm import functional as F
from npllm.cli.verify import show_equivalence
from npllm.utils.markdown import markdown_table, replace_section
from tests.equivalence.cases import CASES
from tests.equivalence.verify import Row, rows


def run(some_rows, readme=None):
    out = io.StringIO()
    status = show_equivalence(Console(file=out, width=120), some_rows, readme)
    return status, out.getvalue()


@pytest.fixture(scope="module")
def all_rows():
    return list(rows())


def test_every_case_is_within_tolerance(all_rows):
    status, text = run(all_rows)
    assert status == 0
    assert f"{len(CASES)} of {len(CASES)} functions, layers and models equal PyTorch" in text
    assert [row.name for row in all_rows[::2]] == list(CASES)
    assert {row.dtype for row in all_rows} == {"float32", "float64"}


def test_float64_is_far_closer_than_float32(all_rows):
    for single, double in zip(all_rows[::2], all_rows[1::2]):
        assert double.output <= 1e-12
        assert single.output <= 1e-4


def test_a_case_out_of_tolerance_fails(monkeypatch):
    monkeypatch.setattr(F, "gelu_backward", lambda dy, cache: dy)
    status, text = run(row for row in rows() if row.name in ("gelu", "relu"))
    assert status == 1
    assert "differs" in text
    assert "1 of 2 functions" in text
    assert "times the tolerance" in text


def test_a_case_that_cannot_run_becomes_a_row_with_the_error(monkeypatch):
    def broken(x):
        raise RuntimeError("cannot run")

    monkeypatch.setattr(F, "relu", broken)
    status, text = run(row for row in rows() if row.name == "relu")
    assert status == 1
    assert "RuntimeError: cannot run" in text


def test_the_readmes_table_is_written_between_its_marks(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- verify -->\nold\n<!-- /verify -->\nafter\n")
    fine = [Row("softmax", "float32", 1e-7, 2e-7, 0.1), Row("softmax", "float64", 0.0, None, 0.0)]
    assert run(fine, readme)[0] == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- verify -->\n| function, layer or model |")
    assert "| softmax | 1.0e-07 | 2.0e-07 | 0 | – | equal |\n<!-- /verify -->\nafter\n" in text
    assert "old" not in text


@pytest.mark.parametrize("text", ["", "<!-- verify -->\n", "\n<!-- /verify -->\n<!-- verify -->\n"])
def test_a_readme_without_the_marks_is_left_alone(tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(ValueError, match="must have the lines <!-- verify --> and <!-- /verify -->"):
        replace_section(readme, "verify", "table")
    assert readme.read_text() == text


def test_markdown_escapes_bars():
    assert markdown_table(["a", "b"], [["x|y", 1]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |"


def test_a_row_is_ok_within_tolerance_only():
    assert Row("x", "float32", 0.0, None, 1.0).ok
    assert not Row("x", "float32", 0.0, None, 1.01).ok
    assert not Row("x", "float32", 0.0, None, np.nan).ok
    assert not Row("x", "float32", 0.0, None, 0.0, "broken").ok

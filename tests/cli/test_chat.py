"""`npllm chat`: one question, a text on standard input, a conversation, and its errors."""

import builtins
import io
import re

import numpy as np
import pytest

from npllm.cli import chat as command
from npllm.cli.main import main
from npllm.cli.text_generation import open_model, stop_ids_of
from npllm.generation import Chat
from tests.cli.published import make_folder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The folder of a small published model, which tests do not change."""
    return make_folder(tmp_path_factory.mktemp("published"))


def run(folder, *arguments):
    """Run the command; no id of a control character or of an incomplete character is drawn."""
    return main(["chat", "--model", str(folder), "--threads", "1", "--max-new-tokens", "6", *arguments])


def answer(folder, question, system=None):
    """The text of one answer, by the library."""
    pretrained = open_model(folder)
    chat = Chat(pretrained, system, stop_ids=stop_ids_of(pretrained), temperature=0)
    text = "".join(token.text for token in chat.answer(question, 6))
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def test_one_question(published, capsys):
    assert run(published, "--prompt", "Hi") == 0
    captured = capsys.readouterr()
    assert captured.out == answer(published, "Hi") + "\n"
    assert re.search(r"prompt: \d+ tokens, [\d.]+ tokens/s; generated: \d+ tokens?.*\n$", captured.err)
    assert run(published, "--prompt", "Hi", "--system", "Be brief.") == 0
    assert capsys.readouterr().out == answer(published, "Hi", "Be brief.") + "\n"


def test_a_text_on_standard_input_is_one_question(published, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("two\nlines"))
    assert run(published) == 0
    assert capsys.readouterr().out == answer(published, "two\nlines") + "\n"


def test_candidates(published, capsys):
    assert run(published, "--prompt", "Hi", "--show-candidates", "2") == 0
    out = capsys.readouterr().out
    assert out.startswith("drawn") and out.endswith("\n\n" + answer(published, "Hi") + "\n")


class Terminal(io.StringIO):
    """A standard input that is a terminal."""

    def isatty(self):
        return True


def converse(monkeypatch, folder, lines, *arguments):
    """Run the command with these lines; an exception among them is raised by input()."""
    entries = iter([*lines, EOFError()])

    def read(prompt=""):
        entry = next(entries)
        if isinstance(entry, BaseException):
            raise entry
        return entry

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(builtins, "input", read)
    return run(folder, *arguments)


def test_a_conversation(published, capsys, monkeypatch):
    assert converse(monkeypatch, published, ["Hi", "", "/new", "Hi", KeyboardInterrupt()]) == 0
    out = capsys.readouterr().out
    assert out.startswith(command.HELP)
    assert out.count(answer(published, "Hi")) == 2, "after /new the same question has the same answer"
    assert "A new conversation." in out


def test_ctrl_c_stops_an_answer(published, capsys, monkeypatch):
    calls = []

    def interrupted(console, tokens):
        next(iter(tokens))
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(command, "show_tokens", interrupted)
    assert converse(monkeypatch, published, ["Hi", "again"]) == 0
    assert "(stopped)" in capsys.readouterr().out
    assert len(calls) == 2, "the conversation goes on"
    calls.clear()
    assert run(published, "--prompt", "Hi") == 130, "one question is interrupted with its process"


def test_a_conversation_that_does_not_fit(published, capsys, monkeypatch):
    assert converse(monkeypatch, published, ["x" * 400, "Hi"]) == 0
    captured = capsys.readouterr()
    assert re.search(r"has \d+ tokens with this message; it must have fewer than 128, the context length", captured.err)
    assert "/new starts a new conversation" in captured.err
    assert answer(published, "Hi") in captured.out, "the message was not added"
    assert run(published, "--prompt", "x" * 400) == 1


def test_a_limited_answer_says_which_limit(published, capsys):
    assert run(published, "--prompt", "Hi", "--logit-bias", f"{end_id(published)}=-inf") == 0
    assert "The answer has no end token: it reached --max-new-tokens 6." in capsys.readouterr().err
    options = ["--logit-bias", f"{end_id(published)}=-inf", "--max-new-tokens", "500"]
    assert run(published, "--prompt", "Hi", *options) == 0
    assert "the conversation fills the context length of 128 tokens." in capsys.readouterr().err


def end_id(folder):
    """The id of the end token."""
    (token_id,) = stop_ids_of(open_model(folder))
    return token_id


def test_a_model_without_a_template(tmp_path, capsys):
    make_folder(tmp_path, template=None)
    assert run(tmp_path, "--prompt", "Hi") == 1
    assert "has no chat template, so it is not a model for conversations" in capsys.readouterr().err


def test_a_hostile_template_is_an_error_without_traceback(tmp_path, capsys):
    make_folder(tmp_path, template="{{ ''.__class__.__mro__[1].__subclasses__() }}")
    assert run(tmp_path, "--prompt", "Hi") == 1
    error = capsys.readouterr().err
    assert "a chat template that attempts what its sandbox does not allow" in error and "Traceback" not in error


def test_a_model_that_was_not_fetched(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NPLLM_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["chat", "--prompt", "Hi"]) == 1
    assert "npllm models fetch smollm2" in capsys.readouterr().err


def test_an_empty_question(published, capsys, monkeypatch):
    assert run(published, "--prompt", " \n") == 1
    assert "--prompt is empty" in capsys.readouterr().err


def test_options_that_have_no_effect(published, capsys):
    with pytest.raises(SystemExit):
        run(published, "--prompt", "Hi", "--top-p", "0.5")
    assert "--top-p has no effect with --temperature 0" in capsys.readouterr().err
    np.testing.assert_equal(run(published, "--prompt", "Hi", "--temperature", "1", "--top-p", "0.5"), 0)


def test_standard_input_without_a_question(published, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    assert run(published) == 1
    assert "standard input has no question; give one there, or with --prompt TEXT" in capsys.readouterr().err


def test_a_word_after_a_slash_is_not_a_question(published, capsys, monkeypatch):
    questions = iter(["/help", "/quit"])

    def read(prompt):
        try:
            return next(questions)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("sys.stdin", type("Terminal", (io.StringIO,), {"isatty": lambda self: True})())
    monkeypatch.setattr(builtins, "input", read)
    assert run(published) == 0
    out, err = capsys.readouterr()
    assert out.count(command.HELP) == 3
    assert "prompt:" not in err

import json
import pickle

import pytest

from npllm.utils.file_errors import FileError, reading


def test_the_message_is_the_path_and_the_problem_and_the_parts_are_attributes():
    error = FileError("a.json", "has n 0; it must be at least 1", field="n", value=0, must_be="at least 1")
    assert isinstance(error, ValueError)
    assert str(error) == "a.json has n 0; it must be at least 1"
    assert (error.path, error.problem, error.field, error.value, error.must_be) == (
        "a.json", "has n 0; it must be at least 1", "n", 0, "at least 1",
    )  # fmt: skip


def test_an_error_survives_pickle_as_between_processes():
    error = pickle.loads(pickle.dumps(FileError("a", "is truncated", field="x", value=[1], must_be="y")))
    assert str(error) == "a is truncated"
    assert (error.path, error.field, error.value, error.must_be) == ("a", "x", [1], "y")


def test_reading_names_the_file_once():
    with pytest.raises(FileError, match="^outer is damaged: bad$"), reading("outer"):
        raise ValueError("bad")
    with pytest.raises(FileError, match="^inner is truncated$"), reading("outer"):
        raise FileError("inner", "is truncated")
    with pytest.raises(FileError, match="^outer is damaged: it is nested too deeply$"), reading("outer"):
        json.loads("[" * 10**5)
    with pytest.raises(OSError), reading("outer"):
        raise OSError("disk")

import numpy as np
import pytest

Figure = pytest.importorskip("matplotlib.figure").Figure

from npllm.lessons.alignment_figure import alignment_figure  # noqa: E402

WEIGHTS = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]])


def test_every_alignment_is_drawn_with_its_tokens():
    alignments = [(WEIGHTS, ["x", "<eos>"], ["a", "bb", "c"]), (WEIGHTS[:, :2], ["y", "z"], ["d", "e"])]
    figure = alignment_figure(alignments, "a title")
    assert isinstance(figure, Figure)
    assert figure.get_suptitle() == "a title"
    for axes, (weights, generated, source) in zip(figure.axes[:2], alignments):
        np.testing.assert_array_equal(axes.images[0].get_array(), weights)
        assert [label.get_text() for label in axes.get_yticklabels()] == generated
        assert [label.get_text() for label in axes.get_xticklabels()] == source


def test_weights_that_do_not_fit_the_tokens_are_refused():
    with pytest.raises(ValueError, match=r"weights has shape \(2, 3\); it must be \(2, 2\), one row for each"):
        alignment_figure([(WEIGHTS, ["x", "y"], ["a", "b"])], "")
    with pytest.raises(ValueError, match="alignments is empty"):
        alignment_figure([], "")

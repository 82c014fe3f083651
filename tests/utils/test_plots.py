import math

import numpy as np
import pytest

from npllm.utils.plots import heat_map, loss_curve, panels, save_figure, save_loss_curve


def lines(figure):
    """The lines of the only axes by label, as (x, y)."""
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in figure.axes[0].get_lines()}


@pytest.mark.parametrize(("number", "columns", "grid"), [(1, 2, (1, 1)), (2, 2, (1, 2)), (5, 4, (2, 4))])
def test_panels_are_laid_out_in_rows(number, columns, grid):
    figure, axes = panels(number, "a title", columns)
    assert figure.get_suptitle() == "a title"
    assert len(axes) == number
    assert axes[0].get_gridspec().get_geometry() == grid
    assert [panel.get_visible() for panel in figure.axes] == [True] * number + [False] * (math.prod(grid) - number)


def test_a_heat_map_shows_the_values_with_a_colour_bar():
    values = np.arange(6.0).reshape(2, 3)
    figure, (axes,) = panels(1, "")
    heat_map(axes, values, "viridis", "score", (0, 9))
    image = axes.images[0]
    np.testing.assert_array_equal(image.get_array(), values)
    assert image.get_clim() == (0, 9)
    assert figure.axes[1].get_ylabel() == "score"


def test_the_loss_curve_has_losses_mean_validation_and_baseline():
    losses = [4.0 - 0.05 * step for step in range(40)]
    found = lines(loss_curve(losses, 50, [(0, 4.1), (20, 3.3)]))
    np.testing.assert_array_equal(found["training loss"][1], losses)
    steps, means = found["mean over 25 steps"]
    np.testing.assert_array_equal(steps, range(24, 40))
    np.testing.assert_allclose(means, [np.mean(losses[step - 24 : step + 1]) for step in steps])
    assert [list(axis) for axis in found["validation loss"]] == [[0, 20], [4.1, 3.3]]
    assert list(found["uniform baseline: ln 50 = 3.91"][1]) == [math.log(50)] * 2


def test_a_short_loss_curve_without_validation():
    found = lines(loss_curve([2.0, 1.0], 8))
    assert list(found["mean over 2 steps"][1]) == [1.5]
    assert "validation loss" not in found


def test_the_curve_of_a_log_is_a_png_file(tmp_path):
    records = [{"step": 0, "loss": 3.0, "validation_loss": 3.1}, {"step": 1, "loss": 2.0}]
    save_loss_curve(tmp_path / "loss.png", records, 20)
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_characters_that_the_font_lacks_are_no_warning(tmp_path):
    figure, _ = panels(1, "日本")
    save_figure(figure, tmp_path / "title.png")
    assert (tmp_path / "title.png").stat().st_size > 1000


def test_an_svg_file_is_the_same_for_the_same_figure(tmp_path):
    for name in ("one.svg", "two.svg"):
        save_figure(loss_curve([3.0, 2.0], 20), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert b"uniform baseline" in (tmp_path / "one.svg").read_bytes()

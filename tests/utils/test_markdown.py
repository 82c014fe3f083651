import pytest

from npllm.utils.markdown import markdown_table, replace_section, section

README = "before\n<!-- verify -->\nold\n<!-- /verify -->\nafter\n"


def test_a_section_is_replaced_and_the_rest_stays(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(README)
    assert section(path, "verify") == "old\n"
    replace_section(path, "verify", "new")
    assert path.read_text() == README.replace("old", "new")


@pytest.mark.parametrize("text", ["", "<!-- verify -->\n", "\n<!-- /verify -->\n<!-- verify -->\n", README * 2])
def test_a_file_without_the_section_is_not_changed(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="must have the lines <!-- verify --> and <!-- /verify -->"):
        replace_section(path, "verify", "table")
    assert path.read_text() == text


def test_bars_in_cells_are_escaped():
    assert markdown_table(["a", "b"], [["x|y", 1]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |"

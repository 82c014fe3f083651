import re
from pathlib import Path

from npllm.tokenizers import vectorized

FOLDER = Path(vectorized.__file__).parent


def test_the_reading_order_is_the_same_everywhere_and_complete():
    """In the package's docstring, in README.md, and no import points to a file that is read later."""
    in_docstring = re.findall(r"[a-z]\w+(?=[,.;])", vectorized.__doc__.partition("Reading order: ")[2])
    in_docstring = [name for name in in_docstring if (FOLDER / f"{name}.py").exists()]
    in_readme = re.findall(
        r"^\| \[(\w+)\.py\]\(\1\.py\)", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert in_readme == in_docstring
    assert sorted(in_readme) == sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
    for index, name in enumerate(in_readme):
        source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
        imported = re.findall(r"from npllm\.tokenizers\.vectorized(?:\.(\w+))? import (\w+)", source)
        assert {module or imported_name for module, imported_name in imported} <= set(in_readme[:index]), name

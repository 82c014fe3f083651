import re
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "npllm/attention/variants"


def test_the_example_runs_and_every_file_is_listed():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for example in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(example, {})
    listed = re.findall(r"^\| \[(\w+\.py)\]\(\1\)", text, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in FOLDER.glob("*.py") if path.name != "__init__.py")

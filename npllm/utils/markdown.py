"""Generated tables in Markdown files. A generated section stands between two comments:

<!-- verify -->
…
<!-- /verify -->
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from npllm.utils.files import atomic_write


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; the first column is aligned to the left, the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def section(path: str | Path, name: str) -> str:
    """The text between <!-- name --> and <!-- /name -->; raises ValueError if these lines are missing."""
    return _split(path, name)[1]


def replace_section(path: str | Path, name: str, content: str) -> None:
    """Write `content` between <!-- name --> and <!-- /name -->; raises ValueError if these lines are missing."""
    before, _, after = _split(path, name)
    with atomic_write(path) as file:
        file.write(f"{before}{content}\n{after}".encode())


def _split(path, name):
    """The text up to the first comment (included), the text between the comments, and the text from the second on."""
    text = Path(path).read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{path} must have the lines {begin.strip()} and {end}, in this order and once each")
    start, stop = text.index(begin) + len(begin), text.index(end)
    return text[:start], text[start:stop], text[stop:]

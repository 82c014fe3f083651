"""Tables in the README are written by the commands that measure them, between two comments:

<!-- verify -->
…
<!-- /verify -->
"""

from pathlib import Path

from npllm.utils.files import atomic_write


def markdown_table(header, rows):
    """A table in Markdown; the first column is text, the others are aligned to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def section(path, name):
    """What stands between <!-- name --> and <!-- /name -->; raises ValueError if the file lacks these lines."""
    return _cut(path, name)[1]


def replace_section(path, name, content):
    """Put `content` between <!-- name --> and <!-- /name -->; raises ValueError if the file lacks these lines."""
    before, _, after = _cut(path, name)
    with atomic_write(path) as file:
        file.write(f"{before}{content}\n{after}".encode())


def _cut(path, name):
    """The text up to and with the first comment, what is between, and the text from the second on."""
    text = Path(path).read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{path} must have the lines {begin.strip()} and {end}, in this order and once each")
    start, stop = text.index(begin) + len(begin), text.index(end)
    return text[:start], text[start:stop], text[stop:]

"""Tables in the README are written by the commands that measure them, between two comments:

<!-- verify -->
…
<!-- /verify -->
"""

from pathlib import Path

from npllm.files import atomic_write


def markdown_table(header, rows):
    """A table in Markdown; the first column is text, the others are aligned to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def replace_section(path, name, content):
    """Put `content` between <!-- name --> and <!-- /name -->; raises ValueError if the file lacks these lines."""
    text = Path(path).read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{path} must have the lines {begin.strip()} and {end.strip()}, in this order and once each")
    before, after = text[: text.index(begin) + len(begin)], text[text.index(end) :]
    with atomic_write(path) as file:
        file.write((before + content + after).encode())

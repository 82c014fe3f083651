"""What the generated sections hold. Each function returns Markdown.

An exact section is the same on every machine, and `--check` compares it to the letter. A measured section has numbers
of one machine; `--check` compares the first column of its table.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from npllm.utils.markdown import markdown_table
from tests.docs.reading import ORDER, PATH, ROOT, lines, title

MEASURED = ROOT / "benchmarks" / "measured" / "results.json"
SPEED, STEPS, LINES, BUSY = (MEASURED.with_name(f"{name}.json") for name in ("speed", "steps", "lines", "busy_cores"))
PUBLISHED_TOKENIZERS = MEASURED.with_name("published_tokenizers.json")
VERIFY_ROWS = ["softmax", "attention", "MultiHeadAttention", "GroupedQueryAttention", "GPT"]
SPEED_ROWS = [  # job, a part of its size, baseline
    ("encode to array, warm", "Tiny Shakespeare", "tiktoken"),
    ("encode strings, warm", "300 of 100 characters", "tiktoken"),
    ("train BPE, ties by id", "1,115,394 characters, 5,000 tokens", "Hugging Face"),
    ("GPT generation", "12 layers", "transformers"),
    ("GPT training step", "12 layers", "PyTorch"),
    ("causal attention forward + backward", "12 heads × 1,024", "PyTorch fused"),
]


@dataclass(frozen=True)
class Section:
    """A generated part of a file, between <!-- name --> and <!-- /name -->."""

    file: str
    name: str
    write: Callable[[], str]
    exact: bool = True


def reading_path() -> str:
    """The starred path: file, idea, lines, section of the book, paper."""
    rows = []
    for number, (name, chapter, paper) in enumerate(PATH, start=1):
        path = ROOT / "npllm" / f"{name}.py"
        rows.append([f"{number}", f"[{name}](npllm/{name}.py)", title(path), lines(path), chapter, paper])
    total = sum(row[3] for row in rows)
    rows.append(["", "", "", f"{total:,}", "", ""])
    return _table(["", "file", "idea", "lines", "book", "paper"], rows)


def all_files() -> str:
    """Every file of npllm in reading order."""
    parts = []
    for folder, names in ORDER.items():
        rows = []
        for name in names.split():
            path = ROOT / "npllm" / folder / f"{name}.py"
            rows.append([f"[{name}.py]({folder}/{name}.py)", title(path), lines(path)])
        link = f"[{folder}/]({folder}/README.md)" if (ROOT / "npllm" / folder / "README.md").is_file() else f"{folder}/"
        about = title(ROOT / "npllm" / folder / "__init__.py")
        parts.append(f"### {link}\n\n{about}.\n\n{_table(['file', 'what it holds', 'lines'], rows)}")
    return "\n\n".join(parts)


def attention_variants() -> str:
    """The table of `npllm attention`."""
    from npllm.cli.attention import cache_table

    header, rows = cache_table()
    for row in rows:
        file = row[1].removeprefix("../")
        row[1] = f"[{file}]({'' if row[1].startswith('../') else 'variants/'}{file})"
    return markdown_table(header, rows)


def equivalence() -> str:
    """The whole table of `npllm verify`."""
    from npllm.cli.verify import equivalence_table
    from tests.equivalence.verify import rows

    return equivalence_table(rows())


def equivalence_excerpt() -> str:
    """Five rows of that table."""
    from npllm.cli.verify import equivalence_table
    from tests.equivalence.cases import CASES
    from tests.equivalence.verify import rows

    return equivalence_table(rows({name: CASES[name] for name in VERIFY_ROWS}))


def benchmark_table(path: Path = MEASURED) -> str:
    """All jobs of a committed results.json."""
    from benchmarks.report import markdown

    content = json.loads(path.read_text(encoding="utf-8"))
    machine = "\n".join(f"- {name}: {what}" for name, what in content["machine"].items())
    return f"Medians of {content['settings']['rounds']} rounds.\n\n{machine}\n\n{markdown(content)}"


def network_speed() -> str:
    """The network's jobs of the committed speed.json: machine, limits, times, what was left out."""
    from benchmarks.report import left_out, limits_lines, speed_table

    content = json.loads(SPEED.read_text(encoding="utf-8"))
    machine = "\n".join(f"- {name}: {what}" for name, what in content["machine"].items())
    wanted = ("read", "product 2048 × 2048", "product 512 × 768 × 3072", "product 512 × 768 × 50257")
    limits = "\n".join(f"- {line}" for line in limits_lines(content["limits"]) if line.startswith(wanted))
    head = f"Medians of {content['settings']['rounds']} rounds.\n\n{machine}\n{limits}\n\n{speed_table(content)}"
    skipped = left_out(content)
    return head + (f"\n\nNot measured:\n\n{skipped}" if skipped else "")


def network_growth() -> str:
    """The slopes of the series."""
    from benchmarks.report import growth_table

    return growth_table(json.loads(SPEED.read_text(encoding="utf-8")))


def steps() -> str:
    """Training steps and generation of steps.json, and the peak memory of the steps."""
    from benchmarks.report import memory_table, speed_table

    content = json.loads(STEPS.read_text(encoding="utf-8"))
    machine = "\n".join(f"- {name}: {content['machine'][name]}" for name in ("npllm", "PyTorch", "load"))
    return f"{machine}\n\n{speed_table(content)}\n\n{memory_table(content)}"


def decoding(start: tuple[str, ...] = ("GPT generation", "decoder generation")) -> str:
    """The jobs of steps.json whose names begin so."""
    from benchmarks.report import speed_table

    content = json.loads(STEPS.read_text(encoding="utf-8"))
    return speed_table(content | {"jobs": [job for job in content["jobs"] if job["job"].startswith(start)]})


def speed_ideas() -> str:
    """What each idea gains."""
    from benchmarks.report import ideas_table

    return ideas_table(json.loads(SPEED.read_text(encoding="utf-8")))


def speed_lines() -> str:
    """The profile by line."""
    from benchmarks.lines import markdown

    content = json.loads(LINES.read_text(encoding="utf-8"))
    machine = "\n".join(f"- {name}: {content['machine'][name]}" for name in ("processor", "npllm", "load"))
    return f"{machine}\n\n{markdown(content)}"


def busy_cores() -> str:
    """A product on idle and on busy cores."""
    from benchmarks.busy_cores import rows

    content = json.loads(BUSY.read_text(encoding="utf-8"))
    names, table = rows(content)
    size = " × ".join(f"{number:,}" for number in content["shape"])
    return f"Product of {size}, {content['threads']} threads:\n\n{_table(['', *names], table)}"


def published_tokenizers() -> str:
    """All files of the committed published_tokenizers.json."""
    from benchmarks.published_tokenizers import markdown

    return markdown(json.loads(PUBLISHED_TOKENIZERS.read_text(encoding="utf-8")))


def speed() -> str:
    """Six jobs, losses among them."""
    content = {
        "jobs": [
            job for path in (STEPS, SPEED, MEASURED) for job in json.loads(path.read_text(encoding="utf-8"))["jobs"]
        ]
    }
    rows = []
    for row in SPEED_ROWS:
        label, baseline, ratio = speed_row(content, *row)
        verdict = f"{ratio:.2f} × as fast" if ratio >= 1 else f"{ratio:.2f} × as fast (slower)"
        rows.append([label, baseline, verdict])
    return _table(["job", "compared with", "npllm is"], rows)


def speed_row(content: dict, job: str, part: str, baseline: str) -> tuple[str, str, float]:
    """One job: its label, the baseline, and the baseline's time relative to npllm's."""
    found = next(row for row in content["jobs"] if row["job"] == job and part in row["size"])
    return f"{job}, {found['size']}", baseline, found["times_npllm"][baseline]["median"]


def seq2seq() -> str:
    """The comparison of `npllm seq2seq` with and without attention."""
    from npllm.experiments.seq2seq_comparison import comparison_markdown

    return comparison_markdown()


def verdicts() -> str:
    """Every experiment: its claim, and the verdict of the full run that ships with the project."""
    from npllm.experiments import catalog, results_file

    rows = []
    for name in catalog.NAMES:
        content = results_file.shipped(name)
        verdict = content["verdict"] if content else {"outcome": "no full run yet", "because": ""}
        link = f"[{name}]({name.replace('-', '_')}.py)"
        rows.append([link, catalog.load(name).claim, verdict["outcome"], verdict["because"]])
    return _table(["experiment", "claim", "verdict", "because"], rows)


def injected_bugs() -> str:
    """Every injected bug, by data file."""
    from tests.mutants.bug import load_bugs

    bugs = load_bugs()
    rows = [
        [bug.name, f"`{bug.file}`", f"`{bug.function}`" if bug.function else "(module)"]
        for found in bugs.values()
        for bug in found
    ]
    return f"{len(rows)} bugs.\n\n{_table(['bug', 'file', 'function'], rows)}"


def _table(header: list[str], rows: list[list]) -> str:
    """A table whose columns are all text."""
    cells = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in cells)


SECTIONS = [
    Section("README.md", "path", reading_path),
    Section("README.md", "verify", equivalence_excerpt, exact=False),
    Section("README.md", "speed", speed),
    Section("npllm/README.md", "files", all_files),
    Section("npllm/attention/README.md", "variants", attention_variants),
    Section("npllm/before_transformers/README.md", "seq2seq", seq2seq, exact=False),
    Section("npllm/experiments/README.md", "verdicts", verdicts),
    Section("torch_ref/README.md", "verify", equivalence, exact=False),
    Section("tests/README.md", "mutants", injected_bugs),
    Section("npllm/core/README.md", "lines", speed_lines),
    Section("npllm/core/README.md", "busy cores", busy_cores),
    Section("npllm/core/README.md", "ideas", speed_ideas),
    Section("benchmarks/README.md", "network", network_speed),
    Section("benchmarks/README.md", "growth", network_growth),
    Section("benchmarks/README.md", "steps", steps),
    Section("npllm/generation/README.md", "decoding", decoding),
    Section("npllm/generation/README.md", "weight forms", lambda: decoding(("x Wᵀ",))),
    Section("benchmarks/README.md", "results", benchmark_table),
    Section("benchmarks/README.md", "published tokenizers", published_tokenizers),
    Section("benchmarks/README.md", "smollm2", lambda: benchmark_table(MEASURED.with_name("smollm2.json"))),
]


def first_column(table: str) -> list[str]:
    """The first cell of every row of the Markdown tables in a text."""
    return [line.split(" | ")[0] for line in table.split("\n") if line.startswith("| ")]


def read(section: Section) -> Path:
    """The file of a section."""
    return ROOT / section.file

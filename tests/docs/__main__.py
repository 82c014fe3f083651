"""`python -m tests.docs`: write the generated sections of all README files; `--check` compares and writes nothing."""

import argparse
import sys

from npllm.utils.markdown import replace_section, section
from tests.docs.reading import ROOT
from tests.docs.sections import SECTIONS, first_column, read


def main(arguments=None):
    """Return 0, or 1 where a section is out of date."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="FILE", help="files to write or check (default: all)")
    parser.add_argument("--check", action="store_true", help="compare, and name what is out of date")
    parser.add_argument("--training", metavar="FOLDER", help="write the losses and a sample of a finished run")
    options = parser.parse_args(arguments)
    if options.training is not None:
        return write_training(options.training)
    chosen = [found for found in SECTIONS if not options.names or found.file in options.names]
    outdated = []
    for found in chosen:
        content = found.write()
        if not options.check:
            replace_section(read(found), found.name, content)
            continue
        written = section(read(found), found.name).rstrip("\n")
        same = written == content if found.exact else first_column(written) == first_column(content)
        if not same:
            outdated.append(f"{found.file}: the section {found.name} is out of date; run python -m tests.docs")
    print("\n".join(outdated) or f"{len(chosen)} generated sections are {'current' if options.check else 'written'}")
    return 1 if outdated else 0


def write_training(folder):
    """Write the report of a run of `npllm train` into npllm/training/README.md."""
    from npllm.cli.training_progress import training_report
    from npllm.training import open_run

    replace_section(ROOT / "npllm" / "training" / "README.md", "training", training_report(open_run(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

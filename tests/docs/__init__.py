"""The generated parts of the README files: `python -m tests.docs` writes them, `--check` compares."""

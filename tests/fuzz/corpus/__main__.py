"""Append a case to the corpus."""

import sys
from pathlib import Path

from tests.fuzz.corpus import add

if len(sys.argv) != 4:
    sys.exit('usage: python -m tests.fuzz.corpus ROUND FILE "what went wrong"')
add(sys.argv[1], Path(sys.argv[2]).read_bytes(), sys.argv[3])

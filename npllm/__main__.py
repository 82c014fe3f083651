"""python -m npllm does what the command npllm does."""

import sys

from npllm.cli.main import main

sys.exit(main())

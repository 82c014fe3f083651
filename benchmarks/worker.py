"""A contender in a process of its own, whose libraries are loaded with other settings; the turns stay A B A B.

    python -m benchmarks.worker MODULE:FUNCTION JSON     builds FUNCTION(**JSON); then each byte on stdin is one call

The call's result is sent back for the first byte, None for every later one. Between two calls the process waits for
the next byte and needs no processor.
"""

import contextlib
import importlib
import json
import os
import pickle
import subprocess
import sys


class Worker:
    """A function without arguments that runs in another process, with further environment variables.

    `function` is "module:name" of a function that returns the contender, `arguments` are its keyword arguments as JSON
    data. The process starts with the first call, and ends with `close` or with this process.
    """

    def __init__(self, function, arguments, environment):
        self.command = [sys.executable, "-m", "benchmarks.worker", function, json.dumps(arguments)]
        self.environment, self.process = environment, None

    def __call__(self):
        if self.process is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self.process = subprocess.Popen(self.command, env=os.environ | self.environment, **pipes)
        try:
            self.process.stdin.write(b".")
            self.process.stdin.flush()
            return pickle.load(self.process.stdout)
        except (BrokenPipeError, EOFError):
            status = self.close()
            raise OSError(f"the process of {self.command[-2]} has ended with status {status}") from None

    def close(self):
        """End the process, and return its exit status."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        return process.wait()


def main(function, arguments):
    """Build the contender, then run it for each byte on standard input."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    module, name = function.split(":")
    run = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    first = True
    while os.read(0, 1):
        result = run()
        answers.write(pickle.dumps(result if first else None))
        answers.flush()
        first = False


if __name__ == "__main__":
    main(*sys.argv[1:])

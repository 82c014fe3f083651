"""Peak memory of a training step: the largest amount of memory that a process of its own held (VmHWM in Linux).

    python -m benchmarks.peak_memory CONTENDER JSON      two steps; prints the peak in bytes

It counts all of the process: the interpreter, the libraries, weights, gradients, AdamW's averages, activations, and
what the allocator keeps. Two steps are run, since the averages are there from the first step on.
"""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks import steps
from benchmarks.measure import OURS

STATUS = Path("/proc/self/status")


def peak_of_step(contender, arguments):
    """Bytes; `contender` is a name in training_steps.py, `arguments` are those of steps.example."""
    command = [sys.executable, "-m", "benchmarks.peak_memory", contender, json.dumps(arguments)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def high_water_mark():
    """The largest resident memory of this process so far in bytes."""
    if STATUS.is_file():
        line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def contender_step(name, arguments):
    """The step of one contender, with nothing else in memory than it needs."""
    model, inputs, targets = steps.example(**arguments)
    if name == OURS:
        return steps.optimizer_step(model, inputs, targets)
    if name == "transformers":
        theirs = steps.transformers_model(model)
        return steps.torch_optimizer_step(theirs, lambda x: theirs(x).logits, inputs, targets)
    from benchmarks import training_steps

    module = steps.reference_of(model)
    return training_steps.torch_forms(module, inputs, targets)[name]()


def main(contender, arguments):
    """Run the step twice and print the mark."""
    run = contender_step(contender, json.loads(arguments))
    run()
    run()
    print(high_water_mark())


if __name__ == "__main__":
    main(*sys.argv[1:])

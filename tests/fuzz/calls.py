"""Calls of public functions with two odd arguments at once: a result, or TypeError, ValueError or IndexError."""

import numpy as np

from tests.calls.odd import LONG, ODD, REFUSALS, arguments_of, time_limit
from tests.calls.table import CALLS
from tests.fuzz.runner import Finding


def calls(rng: np.random.Generator, number: int = 300) -> int:
    """Random calls of the table; tests/calls tries each odd argument alone."""
    names = list(CALLS)
    for _ in range(number):
        name = str(rng.choice(names))
        function, arguments = CALLS[name]()
        possible = [argument for argument in arguments_of(CALLS[name]) if (name, argument) not in LONG]
        if not possible:
            continue
        chosen = rng.choice(possible, min(2, len(possible)), replace=False)
        odd = {str(argument): str(rng.choice(list(ODD))) for argument in chosen}
        try:
            with np.errstate(all="ignore"), time_limit(10):
                function(**arguments | {argument: ODD[what]() for argument, what in odd.items()})
        except REFUSALS:
            pass
        except Exception as error:
            case = {"call": name, "arguments": odd}
            raise Finding(f"{type(error).__name__}: {error}\n{case}", case, kind=f"{name}: {error!r:.80}") from error
    return number


ROUNDS = {"calls": calls}

"""Odd arguments, and what a call with one of them must do.

A call of the table gets one odd value in place of one of its arguments. It must either work, where the value is one
that the annotation allows, or raise TypeError, ValueError or IndexError with a message that names the argument.
"""

import inspect
import re
import signal
import warnings
from contextlib import contextmanager

import numpy as np

ODD = {
    "None": lambda: None,
    "a text": lambda: "odd",
    "2.5": lambda: 2.5,
    "True": lambda: True,
    "-1": lambda: -1,
    "0": lambda: 0,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "[]": list,
    "an object": object,
    "2**70": lambda: 2**70,
    "float32(2)": lambda: np.float32(2),
    "a dict": lambda: {"odd": 1},
    "complex": lambda: 1j,
    "complex array": lambda: np.ones((2, 3), complex),
    "objects": lambda: np.array([None, "odd"], object),
    "a function": lambda: len,
    "0-d": lambda: np.array(1.0),
    "a module": lambda: np,
}
NUMBERS = {"2.5", "-1", "0", "nan", "inf", "2**70", "float32(2)"}
# For each word of an annotation: the odd values that it allows. The range of a number is up to the function.
ALLOWED = {
    "None": {"None"},
    "int": {"-1", "0", "2**70"},
    "float": NUMBERS | {"0-d"},
    "bool": set(ODD),  # the truth of a value, as in Python
    "str": {"a text"},
    "ndarray": {"0-d", "0", "2.5", "-1", "[]", "nan", "inf", "float32(2)"},  # where the shape () or (0) is possible
    "Sequence": {"[]"},
    "Iterable": {"[]", "a dict"},
    "Mapping": {"a dict"},
    "Callable": {"a function"},
    "DTypeLike": {"None", "a function", "[]"},
    "Any": set(ODD),
    "tuple": {"[]"},
    "list": {"[]"},
}
NOT_USED = "is not used, so that all calls are alike"
INSIDE = "is named x or ids, the argument of the function inside"
EXCEPTIONS = {  # (call, argument): why an error need not name it, or why any value is accepted
    ("LinearAttention.forward", "rng"): NOT_USED,
    ("DeltaNet.forward", "rng"): NOT_USED,
    ("SimplifiedSelfAttention.forward", "x"): INSIDE,
    ("CBOW.forward", "ids"): INSIDE,
    ("accumulated_training_step", "micro_batches"): INSIDE,
    ("CrossAttention.forward", "context"): INSIDE,
    ("AdditiveAttention.forward", "q"): INSIDE,
    ("AdditiveAttention.forward", "k"): INSIDE,
    ("GeneralAttention.forward", "k"): INSIDE,
    ("ConcatAttention.forward", "q"): INSIDE,
    ("ConcatAttention.forward", "k"): INSIDE,
    ("MultiHeadLatentAttention", "qk_rope_head_dim"): INSIDE,
}
for name in ("exclude_ids", "penalize_repetition", "penalize_frequency", "add_bias"):
    EXCEPTIONS[name, "logits"] = "has no ids if it is empty, so the error names the ids"
EXCEPTIONS["block_mask", "layout"] = NOT_USED  # converted to bool
EXCEPTIONS |= {("trace", "ids"): INSIDE, ("softcap", "cap"): INSIDE}
for name in ("Seq2Seq.forward", "Seq2Seq.loss", "Seq2Seq.greedy_decode", "SkipGram.loss"):
    EXCEPTIONS |= {(name, argument): INSIDE for argument in ("source", "inputs", "ids", "targets")}
LONG = {("generate", "max_new_tokens"), ("complete", "max_new_tokens"), ("generate_tokens", "max_new_tokens")}
REFUSALS = (TypeError, ValueError, IndexError)


def judge(name, call, argument, odd):
    """Return None if the call with the odd value does what it must, else a sentence."""
    if odd == "2**70" and (name, argument) in LONG:  # a number of steps may be any
        return None
    if odd == "a function" and argument in ("weight_decay_filter", "measure"):  # len is not such a function
        return None
    function, arguments = call()
    value = ODD[odd]()
    where = f"{name}({argument}={odd})"
    try:
        with time_limit(5), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = function(**{**arguments, argument: value})
            if inspect.isgenerator(result):
                list(result)
    except REFUSALS as error:
        is_named = (name, argument) in EXCEPTIONS or names(argument, str(error))
        return None if is_named else f"{where}: {type(error).__name__}: {error}"
    except Exception as error:
        return f"{where}: {type(error).__name__}: {error}"
    if EXCEPTIONS.get((name, argument)) == NOT_USED:
        return None
    annotation = str(inspect.signature(function).parameters[argument].annotation)
    if odd == "True" and "ndarray" in annotation:  # a mask of shape ()
        return None
    allowed = set().union(*(values for word, values in ALLOWED.items() if re.search(rf"\b{word}\b", annotation)))
    if argument == "dtype" and odd in ("None", "[]", "float32(2)", "a dict"):  # NumPy's rules for dtypes
        return None
    return None if odd in allowed else f"{where}: accepted, {_shown(result)}".replace("\n", " ")


def names(argument, message):
    """Whether the message names the argument, as a word: ids or prompts[0] for ids or prompts."""
    if argument == "dtype" and "has no len" in message:
        return True
    if "truth value" in message:  # of an array, where a bool is wanted
        return True
    if argument == "dtype" and re.search("data type|dtype", message):  # NumPy's own message
        return True
    return re.search(rf"(?<![A-Za-z_]){re.escape(argument)}(?![A-Za-z_])", message) is not None


@contextmanager
def time_limit(seconds):
    """Raise TimeoutError in the block after this time."""

    def stop(*_):
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def arguments_of(call):
    """The names of the arguments of a call, without *args and **kwargs."""
    function, _ = call()
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    return [key for key, parameter in inspect.signature(function).parameters.items() if parameter.kind not in kinds]


def _shown(result):
    try:
        return f"{result!r:.60}"
    except Exception as error:
        return f"a result without a repr: {error!r}"

"""Stop strings: the text ends before the first of some strings, wherever the borders of the tokens are.

    "The answer is 4.\\nQ" + ": And 3 + 3?" → [stop strings "\\nQ:"] → "The answer is 4."

A stop string may begin inside one token and end inside another. So a text is held back while its end could be the
beginning of a stop string.
"""

from collections.abc import Iterable

from npllm.core.checks import check_text


class StopStrings:
    """Text in parts, up to the first stop string.

    strings  one or several stop strings, not empty
    found    the stop string that was found, None before

    The result does not depend on how the text is divided: the stop string that is complete first counts. Raises
    TypeError or ValueError unless the strings are texts with at least one character each.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        if isinstance(strings, str):
            raise TypeError(f"stop_strings is the text {strings!r}; it must be a list of texts")
        if isinstance(strings, bytes) or not isinstance(strings, Iterable) or hasattr(strings, "dtype"):
            raise TypeError(f"stop_strings is {strings!r}; it must be a list of texts")
        self.strings = tuple(strings)
        for string in self.strings:
            if not isinstance(string, str):
                raise TypeError(f"a stop string is {string!r}; it must be a text")
            if not string:
                raise ValueError("a stop string is empty; it must have at least one character")
        self.found: str | None = None
        self._held = ""

    def push(self, text: str) -> str:
        """Append a part of the text; return what is certainly before any stop string. After one: nothing."""
        check_text("text", text)
        if self.found is not None:
            return ""
        self._held += text
        end, found = self._first()
        if found is not None:
            self.found = found
        else:
            end = len(self._held) - self._num_pending()
        ready, self._held = self._held[:end], self._held[end:]
        return ready

    def finish(self) -> str:
        """The text that was held back, which no stop string completed."""
        held, self._held = self._held, ""
        return "" if self.found is not None else held

    def _first(self) -> tuple[int, str | None]:
        """Where the stop string begins that is complete first, and which one it is; of several the longest."""
        starts = {string: self._held.find(string) for string in self.strings}
        found = [(start + len(string), start, string) for string, start in starts.items() if start >= 0]
        _, start, string = min(found, default=(0, 0, None))
        return start, string

    def _num_pending(self) -> int:
        """The number of characters at the end that are the beginning of a stop string."""
        longest = max(map(len, self.strings), default=1) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(string.startswith(self._held[-size:]) for string in self.strings):
                return size
        return 0

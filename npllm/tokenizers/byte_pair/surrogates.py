"""Texts that UTF-8 cannot write: halves of surrogate pairs.

    [text] → special tokens → pieces → bytes → …

Two halves stand for one character in UTF-16. Python's str may hold them by themselves, from a file name or from broken
JSON; they have no bytes in UTF-8. As in tiktoken, the halves of a pair are joined, and a half alone becomes U+FFFD.
"""


def replace_surrogates(text):
    """The text without surrogates."""
    return text if is_encodable(text) else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_encodable(text):
    """Is a str free of surrogates?"""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

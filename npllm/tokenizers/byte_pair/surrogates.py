"""Replace surrogates, which UTF-8 cannot encode.

    [text] → special tokens → pre-tokens → bytes → …

In UTF-16 a pair of surrogates stands for one character. A Python str can contain them individually, for instance from
a file name or from invalid JSON, but they have no encoding in UTF-8. As in tiktoken, a pair becomes its character, and
a lone surrogate becomes U+FFFD.
"""


def replace_surrogates(text: str) -> str:
    """The text with pairs of surrogates joined and lone ones replaced by U+FFFD."""
    return text if is_encodable(text) else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_encodable(text: str) -> bool:
    """True if the text has no surrogates, that is, if UTF-8 can encode it."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

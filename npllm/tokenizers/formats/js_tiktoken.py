"""js-tiktoken's JSON, also Anthropic's claude.json: ranks in lines of base64, the pattern and the special tokens.

    {"pat_str": …, "special_tokens": {"<EOT>": 0, …}, "bpe_ranks": "! 5 IQ== Ig== Iw== …\\n! 800 …"}

A line of bpe_ranks begins with a word that is not used and the rank of its first token; the ranks of the others follow.

https://github.com/dqbd/tiktoken, js/src/core.ts.
"""

import binascii
from typing import Any

from npllm.tokenizers.formats.npllm_json import is_id_table


def is_js_tiktoken(content: Any) -> bool:
    """True if parsed JSON has the form of js-tiktoken's files."""
    return isinstance(content, dict) and "bpe_ranks" in content


def from_js_tiktoken(content: dict[str, Any]) -> tuple[dict[bytes, int], str, dict[str, int]]:
    """(ranks, pattern, special tokens) from the parsed JSON. Raises ValueError that names an invalid field."""
    lines, pattern, special = content["bpe_ranks"], content.get("pat_str"), content.get("special_tokens") or {}
    if not (isinstance(lines, str) and isinstance(pattern, str) and is_id_table(special)):
        raise ValueError("bpe_ranks and pat_str must be texts, special_tokens an object from texts to ids")
    ranks = {}
    for line in filter(None, lines.split("\n")):
        try:
            _, first, *encoded = line.split(" ")
            tokens = map(binascii.a2b_base64, encoded)
            ranks.update((token, rank) for rank, token in enumerate(tokens, start=int(first)))
        except ValueError:
            raise ValueError(f"bpe_ranks has the line {line!r:.50}; it must be a word, a rank and base64") from None
    return ranks, pattern, special

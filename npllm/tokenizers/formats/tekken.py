"""Mistral's tekken.json: tokens with their ranks, the pattern, and ids that begin with the special tokens.

    {"config": {"pattern": …, "default_vocab_size": 131072, "default_num_special_tokens": 1000},
     "vocab": [{"rank": 0, "token_bytes": "AA==", …}, …], "special_tokens": [{"rank": 0, "token_str": "<unk>"}, …]}

The first default_vocab_size − default_num_special_tokens entries of `vocab` count, and the id of a token is its rank
plus default_num_special_tokens. The ids below that belong to special tokens. Older files do not list these; they are
then the 20 that mistral_common gives by default, and fillers `<SPECIAL_20>` and so on.

Mistral, mistral_common, tokens/tokenizers/tekken.py.
"""

import binascii
from typing import Any

DEFAULT_SPECIAL_TOKENS = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
)  # fmt: skip
MAX_SPECIAL_TOKENS = 1 << 20


def is_tekken(content: Any) -> bool:
    """True if parsed JSON has the form of tekken.json."""
    return isinstance(content, dict) and isinstance(content.get("vocab"), list) and "config" in content


def from_tekken(content: dict[str, Any]) -> tuple[dict[bytes, int], str, dict[str, int]]:
    """(ranks, pattern, special tokens) from the parsed JSON. Raises ValueError that names the field if it is invalid.

    Mistral's own encoder never finds special tokens in a text; here that is `encode_ordinary`.
    """
    config = content["config"]
    if not isinstance(config, dict) or not isinstance(config.get("pattern"), str):
        raise ValueError("config of tekken.json must be an object with a pattern (text)")
    size, num_special = (config.get(name) for name in ("default_vocab_size", "default_num_special_tokens"))
    if not (type(num_special) is int and type(size) is int and 0 <= num_special <= min(size, MAX_SPECIAL_TOKENS)):
        raise ValueError(
            f"config has default_vocab_size {size!r} and default_num_special_tokens {num_special!r}; they must be "
            "integers, and the first not less than the second"
        )
    entries = content["vocab"][: size - num_special]
    try:
        tokens = [binascii.a2b_base64(entry["token_bytes"]) for entry in entries]
        wrong = [index for index, entry in enumerate(entries) if entry["rank"] != index]
    except (TypeError, KeyError, ValueError):
        raise ValueError("vocab of tekken.json must be a list of objects with rank and token_bytes (base64)") from None
    if wrong:
        raise ValueError(
            f"vocab[{wrong[0]}] of tekken.json has rank {entries[wrong[0]]['rank']!r}; it must be its index"
        )
    ranks = {token: rank + num_special for rank, token in enumerate(tokens)}
    if len(ranks) != len(tokens):
        raise ValueError("vocab of tekken.json has a token more than once")
    return ranks, config["pattern"], _special_tokens(content.get("special_tokens"), num_special)


def _special_tokens(entries, num_special):
    """A dict from special tokens to ids; ids without a token in the file get fillers."""
    if entries is None:
        listed = {text: index for index, text in enumerate(DEFAULT_SPECIAL_TOKENS[:num_special])}
    else:
        try:
            listed = {entry["token_str"]: entry["rank"] for entry in entries}
        except (TypeError, KeyError):
            raise ValueError(
                "special_tokens of tekken.json must be a list of objects with rank and token_str"
            ) from None
    used = set(listed.values())
    if len(used) != len(listed) or not all(type(rank) is int and 0 <= rank < num_special for rank in used):
        raise ValueError(f"special_tokens of tekken.json must have distinct ranks, 0 to {num_special - 1}")
    return listed | {f"<SPECIAL_{index}>": index for index in range(num_special) if index not in used}

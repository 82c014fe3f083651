"""Which tokens of a vocabulary are merged, and which are the ids of whole pre-tokens; checks of a vocabulary.

A token that the merges produce is found in any pre-token. A token that no merges produce can only be a whole pre-token.
tiktoken always looks pre-tokens up, Hugging Face's library only with `ignore_merges`.
"""

from collections import Counter
from collections.abc import Collection

from npllm.core.checks import check_text
from npllm.tokenizers.byte_pair.added_tokens import AddedToken
from npllm.tokenizers.byte_pair.encode import missing_bytes
from npllm.tokenizers.byte_pair.surrogates import is_encodable
from npllm.tokenizers.vectorized.merge_tree import reachable_merges, unreachable_tokens

MAX_ID = (1 << 62) - 1


def reachable_tokens(
    ranks: dict[bytes, int], ignore_merges: bool, unmerged: Collection[bytes] | None
) -> tuple[dict[bytes, int], dict[bytes, int]]:
    """(tokens that are merged, tokens that are whole pre-tokens), dicts from byte strings to ids.

    unmerged  tokens that no merges produce; None: those that are not the result of encoding their own bytes
    """
    if unmerged is None:
        if ignore_merges:
            return ranks, ranks  # whether such tokens are among the merged ones makes no difference
        unmerged = unreachable_tokens(ranks, reachable_merges(ranks))
    if not unmerged:
        return ranks, ranks
    unmerged = frozenset(unmerged)
    merged = {token: rank for token, rank in ranks.items() if token not in unmerged}
    return merged, ranks if ignore_merges else merged


def check_vocabulary(
    ranks: dict[bytes, int], tokens: list[AddedToken], unknown_token: str | None, allow_missing_bytes: bool
) -> None:
    """Raise ValueError or TypeError unless every token is valid and has an id of its own.

    An added token may have the id of an ordinary token with the same bytes.
    """
    texts = [token.text for token in tokens]
    for text in texts:
        check_text("a special token", text)
    if wrong := [token for token in ranks if not isinstance(token, bytes)]:
        raise ValueError(f"ranks has the token {wrong[0]!r}; tokens must be byte strings")
    if "" in texts or b"" in ranks:
        raise ValueError("ranks or special_tokens has the empty token, which matches everywhere")
    if lone := [text for text in texts if not is_encodable(text)]:
        raise ValueError(f"special_tokens has {lone[0]!r}; it must be a text without lone surrogates")
    ids = [*ranks.values(), *(token.id for token in tokens if ranks.get(token.to_bytes()) != token.id)]
    if len(set(ids)) != len(ids):
        raise ValueError("ranks and special_tokens assign one id to several tokens; every token needs its own")
    if invalid := [i for i in ids if not isinstance(i, int) or not 0 <= i <= MAX_ID]:
        raise ValueError(f"ranks and special_tokens have the id {invalid[0]!r}; ids must be integers, 0 to 2**62 - 1")
    if not allow_missing_bytes and (missing := missing_bytes(ranks)):
        raise ValueError(f"ranks has no token for byte {missing[0]}; every single byte must have one")
    if repeated := [text for text, count in Counter(texts).items() if count > 1]:
        raise ValueError(f"special_tokens and added_tokens have {repeated[0]!r} twice")
    if unknown_token is not None and unknown_token not in texts and unknown_token.encode() not in ranks:
        raise ValueError(f"unknown_token is {unknown_token!r}; it must be a token")

"""What a published file says about a character-level tokenizer, in one object; the readers in `formats` make it.

file → [CharacterVocabulary] → SentencePieceTokenizer
"""

import re
from dataclasses import dataclass, field

from npllm.tokenizers.byte_pair.added_tokens import AddedToken
from npllm.tokenizers.character_bpe.decode import Decoding
from npllm.tokenizers.character_bpe.merge import MergeRanks
from npllm.tokenizers.character_bpe.normalization import Step

BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class CharacterVocabulary:
    """A vocabulary and the steps around it.

    tokens         dict from tokens (str) to ids
    ranks          dict from pairs of tokens to ranks; the pair of lowest rank is merged first
    byte_ids       dict from bytes to the ids of byte tokens such as <0xE4>; empty without byte_fallback
    unk_id         id of characters that have neither a token nor byte tokens; None: they are left out
    fuse_unk       True if a run of such characters is one token
    split_before   a character before which merges are not allowed (Metaspace with `split`), or None
    split_after    a character after which merges are not allowed (Split with MergedWithPrevious), or None
    ignore_merges  True if a text between splits that is a token becomes that token, whatever the merges give
    normalizer     steps before the added tokens that are `normalized` are found
    pre_tokenizer  steps after that
    added_tokens   dict from texts that are found before anything is merged to the tokens; the text that is searched for
                   differs from that of the token if it is searched for in the normalized text
    decoding       how ids become text
    token_texts    dict from further ids to what they are decoded to, such as b"" for control tokens of SentencePiece
    prefix_ids     what `add_special_tokens=True` puts before a text
    suffix_ids     and after it
    """

    tokens: dict[str, int]
    ranks: MergeRanks
    byte_ids: dict[int, int] = field(default_factory=dict)
    unk_id: int | None = None
    fuse_unk: bool = False
    split_before: str | None = None
    split_after: str | None = None
    ignore_merges: bool = False
    normalizer: tuple[Step, ...] = ()
    pre_tokenizer: tuple[Step, ...] = ()
    added_tokens: dict[str, AddedToken] = field(default_factory=dict)
    decoding: Decoding = Decoding()
    token_texts: dict[int, str | bytes] = field(default_factory=dict)
    prefix_ids: tuple[int, ...] = ()
    suffix_ids: tuple[int, ...] = ()

    def texts_by_id(self) -> dict[int, str | bytes]:
        """What each id is decoded to: a text, or the byte of a byte token."""
        texts: dict[int, str | bytes] = {token_id: token for token, token_id in self.tokens.items()}
        texts |= {token.id: text for text, token in self.added_tokens.items()}
        if self.decoding.invalid_bytes is not None:
            for token_id, token in texts.items():
                if match := BYTE_TOKEN.fullmatch(str(token)):
                    texts[token_id] = bytes([int(match[1], 16)])
        return texts | self.token_texts

    def usable_ranks(self) -> MergeRanks:
        """The merges that can happen: none joins the texts on both sides of a split.

        Where a text is split before every ▁, no token has ▁ behind its first character. So instead of splitting, such
        merges are left out; the tokens are the same.
        """
        if self.split_before is None and self.split_after is None:
            return self.ranks
        return {
            (left, right): rank
            for (left, right), rank in self.ranks.items()
            if not (self.split_before and self.split_before in (left + right)[1:])
            and not (self.split_after and self.split_after in (left + right)[:-1])
        }

    def needs_pretokens(self) -> bool:
        """True if leaving out merges (`usable_ranks`) is not enough, and texts must be split into pre-tokens.

        That is so with `ignore_merges`, where a pre-token that is a token counts, and where the character at the split
        has no token: it may be left out or joined with its neighbours.
        """
        splits = [character for character in (self.split_before, self.split_after) if character is not None]
        return self.ignore_merges or any(character not in self.tokens for character in splits)

    def pretokens(self, text: str) -> list[str]:
        """A normalized text, split where merges are not allowed."""
        if self.split_before is not None:
            return re.findall(f"{re.escape(self.split_before)}?[^{re.escape(self.split_before)}]*", text)[:-1]
        if self.split_after is not None:
            return re.findall(f"[^{re.escape(self.split_after)}]*{re.escape(self.split_after)}?", text)[:-1]
        return [text]

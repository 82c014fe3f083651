r"""Patterns of published tokenizers that are variants of GPT-4's and GPT-4o's, and further spellings of known patterns.

    [text → pre-tokens] → bytes → merges → ids

Compared with CL100K_PATTERN, the pattern of Llama 3 differs at the end of the text alone: "\n  " is "\n", "  " there,
one pre-token in cl100k. Qwen divides numbers into single digits. Qwen 3.5 counts combining marks as letters.
Mistral's tekken is O200K_PATTERN without contractions and with single digits.

The tokenizer.json of Meta-Llama-3-8B, Qwen2-7B and Qwen3.5, and the tekken.json of Mistral-Nemo.
"""

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WHITESPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"

LLAMA3_PATTERN = (
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{WHITESPACE}"
)
QWEN2_PATTERN = rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{WHITESPACE}"
QWEN35_PATTERN = (
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{WHITESPACE}"
)
TEKKEN_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{WHITESPACE}"
)

PUBLISHED_PATTERNS = {
    "llama3": LLAMA3_PATTERN,
    "qwen2": QWEN2_PATTERN,
    "qwen3.5": QWEN35_PATTERN,
    "tekken": TEKKEN_PATTERN,
}

# GPT-2's pattern as OpenAI's encoder.py has it, and as js-tiktoken, Claude and llama.cpp do. It means GPT2_PATTERN.
GPT2_OLD_SPELLING = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# DeepSeek V3 divides a text in three steps: numbers, runs of Chinese or Japanese characters, and this pattern.
CHINESE_OR_JAPANESE = "[一-龥぀-ゟ゠-ヿ]+"  # noqa: RUF001
DEEPSEEK_V3_PATTERN = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{WHITESPACE}"
)

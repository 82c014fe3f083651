"""The texts that the tokenizer benchmarks encode: pinned files, and texts generated from a fixed seed.

data/markdown_and_python.txt.xz is a snapshot of this project's Markdown and Python at one commit, 1.6 million
characters; its hash is checked, so the text of a benchmark never changes with the project.
"""

import base64
import hashlib
import lzma
import random
from functools import lru_cache
from pathlib import Path

SNAPSHOT = Path(__file__).parent / "data" / "markdown_and_python.txt.xz"
SNAPSHOT_SHA256 = "f141a1cad639c21af534aa7835243ad5d29ed481e3e9b175f5a3633b6242b600"  # of the decompressed text

# Sentences written for this benchmark, in languages with letters outside of ASCII.
SENTENCES = (
    "Der Wärter prüfte täglich das Gerät auf dem Dach, schrieb die Höhe des Regens auf und ging früh nach Hause.",
    "Le météorologue notait chaque matin la température, même l'été, où presque rien n'arrivait à l'observatoire.",
    "El niño preguntó por qué el cañón del molino señalaba siempre hacia el sur; nadie supo qué responderle.",
    "Смотритель маяка записывал погоду каждый вечер, и никто, кроме кошки, не читал его аккуратных тетрадей.",
    "Ο φύλακας έγραφε κάθε βράδυ τον καιρό σε ένα παλιό τετράδιο, αλλά κανείς δεν το διάβαζε ποτέ.",
    "灯台守は毎晩、空の色と風の向きを古い帳面に書きとめたが、それを読む人は誰もいなかった。",
    "看守人每天晚上都把天气写进旧本子里,可是除了那只猫以外,从来没有人读过。",
    "등대지기는 매일 저녁 하늘의 빛깔과 바람의 방향을 낡은 공책에 적었지만 읽는 사람은 없었다.",
    "चौकीदार हर शाम पुराने रजिस्टर में मौसम लिखता था, पर बिल्ली के सिवा कोई उसे देखता नहीं था।",
    "كان الحارس يكتب حالة الطقس كل مساء في دفتر قديم، ولم يكن أحد يقرؤه سوى القطة.",
    "Pamiętnik latarnika, pełen żółtych kartek i źle opisanych chmur, przeleżał sto lat w szufladzie.",
)


@lru_cache
def markdown_and_python() -> str:
    """The snapshot. Raises ValueError if the file was changed."""
    data = lzma.decompress(SNAPSHOT.read_bytes())
    if hashlib.sha256(data).hexdigest() != SNAPSHOT_SHA256:
        raise ValueError(f"{SNAPSHOT} has another hash than {SNAPSHOT_SHA256}; restore the file")
    return data.decode("utf-8")


def many_languages(size: int = 500_000) -> str:
    """`size` characters of these sentences in random order, each with a random part removed, so that words differ."""
    draw = random.Random(0)
    parts, length = [], 0
    while length < size:
        sentence = draw.choice(SENTENCES)
        first, second = sorted(draw.sample(range(len(sentence)), 2))
        parts.append(sentence[:first] + sentence[second:] + draw.choice((" ", "\n", "\n\n")))
        length += len(parts[-1])
    return "".join(parts)[:size]


def hard_texts(size: int = 1_000_000) -> dict[str, str]:
    """Texts that are hard for an encoder, by name: one pre-token, or pre-tokens that hardly occur twice."""
    draw = random.Random(0)
    words = [word.lower() for word in markdown_and_python().split() if word.isalpha()]
    return {
        "random letters": "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=size)),
        "random digits": "".join(draw.choices("0123456789", k=size)),
        "words without spaces": "".join(draw.choices(words, k=size // 4)),
        "one letter": "a" * size,
        "spaces": " " * size,
        "base64": base64.b64encode(draw.randbytes(size // 4 * 3)).decode(),
        "random CJK": "".join(chr(draw.randrange(0x4E00, 0x9FFF)) for _ in range(size // 3)),
        "random emoji": "".join(
            draw.choice("❤️ \u200d") + chr(draw.randrange(0x1F300, 0x1FA00)) for _ in range(size // 4)
        ),
        "random code points": "".join(
            chr(draw.choice((draw.randrange(0x20, 0xD800), draw.randrange(0xE000, 0x30000)))) for _ in range(size // 3)
        ),
    }

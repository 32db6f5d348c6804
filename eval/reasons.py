"""Measures the reasons that the configured service gives on its own catalogue and log: are they
true, are they the reason, do they fit their item alone, and what do they take.

A reason's evidence is judged by leaving it out. The service scores the same candidates for the
same likes without the cited ones, and without as many others drawn by lot; evidence that matters
lowers the item more. These rankings are without a user; those that are asked for with reasons are
logged like any other."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random

from eval.evidence import Evidence
from eval.falsehoods import Planter
from eval.leave_out import LeaveOut
from eval.lexicon import FUNCTION_WORDS, QUOTED
from eval.own import own_data
from eval.protocols import Options
from eval.reader import Statement, read
from eval.words import Material, covered, numbers, runs, words
from service.build import Service
from service.errors import BadRequest
from service.schema import (
    Event,
    Item,
    Ranked,
    Ranking,
    RecommendRequest,
)

READ = 400
"""How many characters of an item's text the model reads that tells likelihoods."""
CANDIDATES = 50
"""How many items of the person's own are scored beside each other when evidence is left out."""
LONGEST_HISTORY = 1_000
"""The most likes that a request may bring along."""
SHOWN_EVENTS = 6
READ_LANGUAGES = {"en", "zh"}
"""Languages whose statements the reader knows to find."""


@dataclass(frozen=True)
class ReasonsTarget:
    """Whose reasons to measure: of `people` by lot, for the first `top` items, in each locale.
    `instruction`: what all of them ask for; `deadline_ms`: the service's own if it is None.
    `likelihood`: the model that tells how likely each reason is of each item of its list."""

    people: int = 20
    top: int = 5
    locales: Sequence[str] = ("en", "zh")
    seed: int = 0
    instruction: str | None = None
    deadline_ms: int | None = None
    likelihood: str | None = None

    def request(self, user_id: str, locale: str) -> RecommendRequest:
        return RecommendRequest(
            user_id=user_id,
            top_n=self.top,
            locale=locale,
            explain="full",
            instruction=self.instruction,
            deadline_ms=self.deadline_ms,
        )


@dataclass(frozen=True)
class MeasuredReason:
    """`statements`: None in a language that the reader doesn't know. `mattered`: did the item fall
    more without the cited likes than without others? None where that can't be told. `specific`: for
    each other item of the list, how much better the reason fits its own: 1, ½ or 0. `planted`,
    `found`: falsehoods planted into it, and those that the reader found."""

    row: Ranked
    statements: list[Statement] | None
    mattered: bool | None
    specific: list[float]
    planted: int = 0
    found: int = 0


@dataclass(frozen=True)
class ReasonList:
    """The reasons of one answer. `seconds`: from the ranking to the last reason; `again`: the same
    when asked a second time; `tokens`: that the reasons took; `history`: the person's last events
    in words. `likelier`: for each reason and each other item of the list, is it likelier of its
    own?"""

    user_id: str
    locale: str
    reasons: list[MeasuredReason]
    seconds: float
    again: float
    tokens: int
    degraded: bool
    history: list[str]
    likelier: list[bool]


async def measure_reasons(
    service: Service, target: ReasonsTarget, step: Callable[[int, int], None]
) -> list[ReasonList]:
    """Has the service answer for each person and locale, one after the other, and measures each
    list. `step` takes how many lists are done, and of how many. Raises `BadRequest` for an empty
    catalogue, and if nobody in the log liked anything."""
    if not await service.records.list_items("", 1):
        raise BadRequest("the catalogue is empty: 'whyrank ingest items FILE' fills it")
    if not await service.records.list_users("", 1):
        raise BadRequest("nobody is known: 'whyrank ingest events FILE' says what people did")
    data = await own_data(service, Path("log"))
    meanings = service.settings.events.of(service.settings.service.domain)
    catalogue = {item.id: item for item in data.items}
    evidence = Evidence(catalogue, meanings, data.events)
    people = defaultdict[str, list[Event]](list)
    for event in data.events:
        if event.user_id is not None:
            people[event.user_id].append(event)
    measuring = _Measuring(service, target, evidence, people)
    able = sorted(user_id for user_id in people if measuring.likes(user_id))
    if not able:
        raise BadRequest(
            "nobody in the log liked an item of the catalogue: 'whyrank ingest events FILE' adds "
            "likes, ratings or purchases"
        )
    chosen = Random(target.seed).sample(able, min(target.people, len(able)))
    jobs = [(user_id, locale) for user_id in chosen for locale in target.locales]
    step(0, len(jobs))
    lists = []
    for done, (user_id, locale) in enumerate(jobs, 1):
        lists.append(await measuring.ask(user_id, locale))
        step(done, len(jobs))
    return lists


@dataclass(frozen=True)
class _Measuring:
    """`people`: everybody's events, oldest first, by user id."""

    service: Service
    target: ReasonsTarget
    evidence: Evidence
    people: dict[str, list[Event]]

    def likes(self, user_id: str) -> list[str]:
        """The items of the catalogue that a person liked, by their last like."""
        options, catalogue = Options(self.evidence.meanings), self.evidence.catalogue
        liked = (
            event.item_id
            for event in reversed(self.people[user_id])
            if event.item_id in catalogue and options.likes(event)
        )
        unique = islice(dict.fromkeys(item_id for item_id in liked if item_id), LONGEST_HISTORY)
        return [*reversed([*unique])]

    async def ask(self, user_id: str, locale: str) -> ReasonList:
        """Has the service answer twice, and measures what it says at first."""
        request = self.target.request(user_id, locale)
        first, ranking = await self._answer(request)
        _, again = await self._answer(request)
        ids = [*await self._candidates(user_id), *(row.item_id for row in ranking.items)]
        leave_out = LeaveOut(self.service, self.likes(user_id), [*dict.fromkeys(ids)])
        return ReasonList(
            user_id,
            locale,
            [await self._measured(request, row, ranking, leave_out) for row in ranking.items],
            ranking.timings.explain_ms / 1000,
            again.timings.explain_ms / 1000,
            ranking.usage.total_tokens - first.usage.total_tokens,
            ranking.degraded is not None,
            [self._told(event) for event in self.people[user_id][-SHOWN_EVENTS:]],
            await self._likelier(ranking),
        )

    async def _answer(self, request: RecommendRequest) -> tuple[Ranking, Ranking]:
        """Returns the ranking before its reasons, and with them."""
        answer = await self.service.recommender.stream(request)
        rankings = [part async for part in answer if isinstance(part, Ranking)]
        return rankings[0], rankings[-1]

    async def _measured(
        self, request: RecommendRequest, row: Ranked, ranking: Ranking, leave_out: LeaveOut
    ) -> MeasuredReason:
        reason, item = row.reason or "", self.evidence.catalogue.get(row.item_id)
        if not reason or item is None:
            return MeasuredReason(row, [], None, [])
        dice = Random(f"{self.target.seed} {request.user_id} {row.item_id}")
        mattered = await leave_out.mattered(row.item_id, row.evidence, dice)
        measured = MeasuredReason(row, None, mattered, self._specific(row, ranking))
        if language(request.locale or "") not in READ_LANGUAGES:
            return measured
        statements, planted, found = self._read(request, reason, item, dice)
        return replace(measured, statements=statements, planted=planted, found=found)

    async def _likelier(self, ranking: Ranking) -> list[bool]:
        """For each reason and each other item of the list, whether the model finds the reason
        likelier of its own item."""
        rows = [
            row for row in ranking.items if row.reason and row.item_id in self.evidence.catalogue
        ]
        if self.target.likelihood is None:
            return []
        items = [self.evidence.catalogue[row.item_id] for row in rows]
        contexts = [
            f"{item.title}: {', '.join(str(value) for _, value in item.facts())}. "
            f"{item.text[:READ]}\nWhy it was chosen: "
            for item in items
        ]
        asked = [(context, row.reason or "") for row in rows for context in contexts]
        values = await self.service.models.likelihoods(self.target.likelihood, asked)
        count = len(rows)
        table = [values[n * count : (n + 1) * count] for n in range(count)]
        return [
            table[n][n] > value for n in range(count) for m, value in enumerate(table[n]) if m != n
        ]

    def _specific(self, row: Ranked, ranking: Ranking) -> list[float]:
        """For each other item of the list, how much better the reason fits its own."""
        catalogue, reason = self.evidence.catalogue, row.reason or ""
        own = support(reason, self.evidence.material(catalogue[row.item_id]))
        others = [other.item_id for other in ranking.items if other.item_id != row.item_id]
        return [
            _better(own, support(reason, self.evidence.material(catalogue[other])))
            for other in others
            if other in catalogue
        ]

    def _read(
        self, request: RecommendRequest, reason: str, item: Item, dice: Random
    ) -> tuple[list[Statement], int, int]:
        """Returns what the reason says. If all is true, falsehoods are planted into it: how many,
        and how many of them the reader finds."""
        events, wish = self.people[request.user_id or ""], request.instruction or ""
        said = read(self.evidence, reason, item, events, wish)
        if not all(statement.true for statement in said):
            return said, 0, 0
        planted = Planter(self.evidence, events, dice).plant(reason, item)
        found = [
            any(not one.true for one in read(self.evidence, false.text, item, events, wish))
            for false in planted
        ]
        return said, len(planted), sum(found)

    async def _candidates(self, user_id: str) -> list[str]:
        """The first items of the person's own ranking by the prior."""
        request = RecommendRequest(
            user_id=user_id,
            top_n=CANDIDATES,
            instruction=self.target.instruction,
            strategy="prior",
            explain="none",
        )
        ranking = await self.service.recommender.recommend(request)
        return [row.item_id for row in ranking.items]

    def _told(self, event: Event) -> str:
        """An event in words."""
        meaning = self.evidence.meanings.get(event.type)
        item = self.evidence.catalogue.get(event.item_id or "")
        what = item.title if item is not None else event.text or event.item_id or ""
        verb = (meaning.plain_verb if meaning else "") or event.type.replace("_", " ")
        return f'{verb} "{what}"' + ("" if event.value is None else f" {event.value:g}")


def language(locale: str) -> str:
    """The language of a locale: zh of zh-CN."""
    return re.split("[-_]", locale)[0].lower()


def support(reason: str, material: Material) -> int:
    """How many of a reason's words and numbers, and characters if they are Chinese, an item bears
    out; quoted titles are left out."""
    text = QUOTED.sub(";", reason)
    forms = {word.form for word in words(text) if word.form not in FUNCTION_WORDS}
    figures = {number for number, *_ in numbers(text)}
    chinese = sum(
        len(piece) for run, _ in runs(text) for piece, own in covered(run, [material]) if own
    )
    return sum(map(material.says, forms)) + len(figures & material.numbers) + chinese


def _better(own: int, other: int) -> float:
    return 1.0 if own > other else 0.5 if own == other else 0.0

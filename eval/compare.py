"""Models beside each other: each ranks the same candidates for the same people. How alike do they
rank, what does it take?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean, median
from typing import Any

from pydantic import ValidationError

from eval import stats
from eval.cases import Data
from eval.metrics import kendall, metric, overlap
from eval.run import Make, fill, housed
from service.config import Settings
from service.errors import BadRequest, NotFound, reasons
from service.pipeline import Recommender
from service.schema import PRIOR, Ranking, RecommendRequest

HEADLINE = metric("nDCG@10")
ANSWER_S = 300
"""So long a model may take to show that it is there: weights in this process are loaded first."""


@dataclass(frozen=True)
class ComparedCase:
    """Whom to rank for. `relevant`: what their case asks for; empty where nobody knows."""

    request: RecommendRequest
    relevant: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Answers:
    """`candidates`: what all were asked about, in the prior's order; `rankings`: all of it in each
    model's order."""

    question: ComparedCase
    candidates: list[str]
    rankings: dict[str, Ranking]

    def order(self, alias: str) -> list[str]:
        return [item.item_id for item in self.rankings[alias].items]

    def own(self, alias: str) -> list[str]:
        """The model's order before it was fused with the prior, or the prior's; empty where the
        model didn't answer."""
        if alias == PRIOR:
            return self.order(alias)
        ranking = self.rankings[alias]
        judged = [
            item for item in ranking.items if "model" in item.signals and ranking.model == alias
        ]
        return [item.item_id for item in sorted(judged, key=lambda item: -item.signals["model"])]


@dataclass(frozen=True)
class Agreement:
    """Of two models, means over people: Kendall's τ, in [−1, 1], of what is served, and the share
    of its first k that both name; `own`: τ of their orders before fusion, over the people for whom
    both answered, None where there are none."""

    one: str
    other: str
    tau: float
    overlap: float
    own: float | None


@dataclass(frozen=True)
class Figures:
    """Of one model, a ranking. `seconds`: the median; `cost`: dollars for 1,000, None without a
    price; `degraded`: the share that something else answered; `quality`: nDCG@10 and its 95 %
    interval, where cases say what is relevant."""

    seconds: float
    read: float
    written: float
    cost: float | None
    degraded: float
    quality: tuple[float, float, float] | None


def named(given: Sequence[str], settings: Settings) -> list[str]:
    """Aliases as typed, `a` or `a,b`, each once. Raises `BadRequest` for an unknown one, and for
    fewer than two."""
    aliases = list(
        dict.fromkeys(part.strip() for one in given for part in one.split(",") if part.strip())
    )
    known = ", ".join([PRIOR, *settings.models])
    for alias in aliases:
        if alias not in {PRIOR, *settings.models}:
            raise BadRequest(f"no model {alias!r}; known: {known}")
    if len(aliases) < 2:
        raise BadRequest(
            f"at least two models are compared, as in --model a --model b, or --model a,b; "
            f"known: {known}"
        )
    return aliases


def of_people(file: Path, asked: RecommendRequest) -> list[ComparedCase]:
    """From a file of user ids, one a line. Raises `BadRequest` naming file, line and reason."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        ids = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
        found = [ComparedCase(_for(asked, user_id=user)) for user in ids]
    except OSError as error:
        raise BadRequest(f"{file}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"{file}: expected user ids, one a line, in UTF-8") from error
    except BadRequest as error:
        raise BadRequest(f"{file}: expected user ids, one a line: {error.message}") from error
    if not found:
        raise BadRequest(f"{file}: holds no user id")
    return found


def of_cases(cases: Data, asked: RecommendRequest) -> list[ComparedCase]:
    """A case's own instruction counts more than the one for all. Raises `BadRequest` for what is no
    case folder."""
    cases.audit()
    return [
        ComparedCase(
            _for(
                asked,
                user_id=case.user_id,
                candidates=case.candidates,
                exclude=case.exclude,
                instruction=case.instruction or asked.instruction,
            ),
            frozenset(case.relevant),
        )
        for case in cases.cases
    ]


def _for(asked: RecommendRequest, **fields: Any) -> RecommendRequest:
    try:
        return RecommendRequest.model_validate({**asked.model_dump(exclude_unset=True), **fields})
    except ValidationError as error:
        raise BadRequest(reasons(error)) from error


class Panel:
    """Those who are asked, each by a recommender in which reasons are its own words too. Made by
    `async with Panel.open(…)`."""

    def __init__(self, recommender: Recommender, members: Mapping[str, Recommender]) -> None:
        self._recommender = recommender
        self._members = members

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        make: Make,
        settings: Settings,
        aliases: Sequence[str],
        questions: Sequence[ComparedCase],
        cases: Data | None = None,
    ) -> AsyncIterator[Panel]:
        """`cases`: their log is put into a store of its own, under the data folder. Raises
        `BadRequest` for people nobody has heard of, and for a model that doesn't answer: a column
        of the prior's answers would be no comparison."""
        plain = settings.changed({"shadow": {"model": None}})
        home = plain if cases is None else housed(plain, cases, settings.data / "compare")
        recommender, members = await make(home), dict[str, Recommender]()
        try:
            if cases is not None:
                await fill(recommender, cases, home.data)
            await _known(recommender, [one.request.user_id or "" for one in questions])
            for alias in aliases:
                members[alias] = await _speaking(recommender, alias)
                if alias != PRIOR and (why := await members[alias].wrong(alias, ANSWER_S)):
                    raise BadRequest(
                        f"model {alias} can't be compared: {why}; 'whyrank models probe "
                        f"{alias}' asks it alone"
                    )
            yield cls(recommender, members)
        finally:
            for member in members.values():
                if member is not recommender:
                    await member.leave_to(recommender)
            await recommender.close()

    async def ask(
        self, question: ComparedCase, step: Callable[[str], None] = lambda alias: None
    ) -> Answers:
        """One model after the other, so that none waits for another's work. Raises `BadRequest`
        where nothing can be ranked."""
        candidates = await self._candidates(question.request)
        rankings = {}
        for alias, member in self._members.items():
            fields = {"model": alias, "candidates": candidates, "top_n": len(candidates)}
            explain = {} if self._writes(alias) else {"explain": "none"}
            rankings[alias] = await member.recommend(
                question.request.model_copy(update={**fields, **explain})
            )
            step(alias)
        return Answers(question, candidates, rankings)

    async def _candidates(self, request: RecommendRequest) -> list[str]:
        """As many of the prior's first as a model judges: behind them all have the prior's order,
        and would agree."""
        settings = self._recommender.settings
        size = max(request.top_n, min(settings.rank.depth, settings.limits.top_n))
        plain = request.model_copy(update={"strategy": "prior", "explain": "none", "top_n": size})
        found = [item.item_id for item in (await self._recommender.recommend(plain)).items]
        if len(found) < 2:
            raise BadRequest(
                f"user {request.user_id}: {len(found)} candidates, nothing to order; 'whyrank "
                f"ingest' takes items"
            )
        return found

    def _writes(self, alias: str) -> bool:
        """One in this process tells likelihoods only."""
        return alias == PRIOR or self._recommender.settings.models[alias].backend != "local"


async def _known(recommender: Recommender, people: Sequence[str]) -> None:
    """Raises `BadRequest` naming those nobody has heard of."""
    unknown = []
    for user in people:
        try:
            await recommender.user(user)
        except NotFound:
            unknown.append(user)
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise BadRequest(
            f"no user {', '.join(map(repr, unknown[:5]))}{more}: they declared nothing and did "
            f"nothing"
        )


async def _speaking(recommender: Recommender, alias: str) -> Recommender:
    settings = recommender.settings
    if alias in {PRIOR, settings.roles.explain} or settings.models[alias].backend == "local":
        return recommender
    return await recommender.reloaded(settings.changed({"roles": {"explain": alias}}))


# ── the fold ──────────────────────────────────────────────────────────────────────────────────────


def agreements(answers: Sequence[Answers], k: int) -> list[Agreement]:
    found = []
    for one, other in combinations(answers[0].rankings, 2):
        served = [(each.order(one), each.order(other)) for each in answers]
        alone = [pair for each in answers if all(pair := (each.own(one), each.own(other)))]
        tau, share = (
            fmean(kendall(*pair) for pair in served),
            fmean(overlap(*pair, k) for pair in served),
        )
        found.append(
            Agreement(
                one, other, tau, share, fmean(kendall(*pair) for pair in alone) if alone else None
            )
        )
    return found


def figures(answers: Sequence[Answers], alias: str) -> Figures:
    rankings = [each.rankings[alias] for each in answers]
    costs = [ranking.usage.cost for ranking in rankings if ranking.usage.cost is not None]
    asked = [each for each in answers if each.question.relevant]
    return Figures(
        seconds=median(ranking.timings.total_ms for ranking in rankings) / 1000,
        read=fmean(ranking.usage.prompt_tokens for ranking in rankings),
        written=fmean(ranking.usage.completion_tokens for ranking in rankings),
        cost=1000 * sum(costs) / len(rankings) if costs else None,
        degraded=fmean(ranking.degraded is not None for ranking in rankings),
        quality=_quality(
            [HEADLINE.of(each.order(alias), each.question.relevant) for each in asked]
        ),
    )


def _quality(values: Sequence[float]) -> tuple[float, float, float] | None:
    return (fmean(values), *stats.interval(values)) if values else None

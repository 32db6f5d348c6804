"""Compares models that rank the same candidates for the same people: how alike they rank, and what
time, tokens and money each takes."""

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
from eval.store import Make, fill, housed
from service.build import Service
from service.config import Settings
from service.errors import BadRequest, NotFound, reasons
from service.schema import PRIOR, Ranking, RecommendRequest

HEADLINE = metric("nDCG@10")
ANSWER_S = 300
"""Seconds that a model may take to show that it answers: weights in this process are loaded
first."""


@dataclass(frozen=True)
class ComparedCase:
    """A request to rank for one person. `relevant`: the answers of the person's case; empty where
    there is no case."""

    request: RecommendRequest
    relevant: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Answers:
    """All models' rankings for one question. `candidates`: the ids that the models were asked to
    rank, in the prior's order; `rankings`: by model alias, all candidates in that model's order."""

    question: ComparedCase
    candidates: list[str]
    rankings: dict[str, Ranking]

    def order(self, alias: str) -> list[str]:
        return [item.item_id for item in self.rankings[alias].items]

    def own(self, alias: str) -> list[str]:
        """Returns the item ids in the model's order before fusion with the prior; for the prior its
        own order; empty where the model didn't answer."""
        if alias == PRIOR:
            return self.order(alias)
        ranking = self.rankings[alias]
        judged = [
            item for item in ranking.items if "model" in item.signals and ranking.model == alias
        ]
        return [item.item_id for item in sorted(judged, key=lambda item: -item.signals["model"])]


@dataclass(frozen=True)
class Agreement:
    """How alike the models `one` and `other` rank, as means over people. `tau`: Kendall's τ of the
    served orders, in [−1, 1]; `overlap`: the share of the first k items that both name; `own`: τ of
    the orders before fusion, over the people for whom both models answered, None where there are
    none."""

    one: str
    other: str
    tau: float
    overlap: float
    own: float | None


@dataclass(frozen=True)
class Figures:
    """What a ranking by one model takes. `seconds`: the median; `read`, `written`: mean tokens;
    `cost`: US dollars for 1,000 rankings, None without a price; `degraded`: the share that
    something else answered; `quality`: mean nDCG@10 and its 95 % interval, where cases say what is
    relevant."""

    seconds: float
    read: float
    written: float
    cost: float | None
    degraded: float
    quality: tuple[float, float, float] | None


def parse_aliases(given: Sequence[str], settings: Settings) -> list[str]:
    """Splits aliases as typed, `a` or `a,b`, and returns each once. Raises `BadRequest` for an
    unknown alias, and for fewer than two."""
    aliases = list(
        dict.fromkeys(name.strip() for name in ",".join(given).split(",") if name.strip())
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


def questions_of_people(file: Path, request: RecommendRequest) -> list[ComparedCase]:
    """Reads a file of user ids, one a line, into a question each. Raises `BadRequest` naming the
    file and the reason."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        ids = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
        questions = [ComparedCase(_request_for(request, user_id=user)) for user in ids]
    except OSError as error:
        raise BadRequest(f"{file}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"{file}: expected user ids, one a line, in UTF-8") from error
    except BadRequest as error:
        raise BadRequest(f"{file}: expected user ids, one a line: {error.message}") from error
    if not questions:
        raise BadRequest(f"{file}: holds no user id")
    return questions


def questions_of_cases(cases: Data, request: RecommendRequest) -> list[ComparedCase]:
    """Returns a question for each case; a case's own instruction replaces that of `request`. Raises
    `BadRequest` if `cases` is no case folder or leaks."""
    cases.audit()
    return [
        ComparedCase(
            _request_for(
                request,
                user_id=case.user_id,
                candidates=case.candidates,
                exclude=case.exclude,
                instruction=case.instruction or request.instruction,
            ),
            frozenset(case.relevant),
        )
        for case in cases.cases
    ]


def _request_for(request: RecommendRequest, **fields: Any) -> RecommendRequest:
    try:
        return RecommendRequest.model_validate({**request.model_dump(exclude_unset=True), **fields})
    except ValidationError as error:
        raise BadRequest(reasons(error)) from error


class Panel:
    """The models to compare, each with a service whose reasons that model writes too, if it can.
    Made by `async with Panel.open(…)`."""

    def __init__(self, service: Service, members: Mapping[str, Service]) -> None:
        self._service = service
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
        """Opens a service for each model, and closes all at the end. `cases`: a case folder, whose
        log is put into a separate store below the data folder. Raises `BadRequest` for unknown
        people, and for a model that doesn't answer: the prior would answer in its place."""
        plain = settings.changed({"shadow": {"model": None}})
        home = plain if cases is None else housed(plain, cases, settings.data / "compare")
        service, members = await make(home), dict[str, Service]()
        try:
            if cases is not None:
                await fill(service, cases, home.data)
            people = [question.request.user_id or "" for question in questions]
            await _check_known(service, people)
            for alias in aliases:
                members[alias] = await _with_own_reasons(service, alias)
                if alias != PRIOR and (
                    why := await members[alias].models.why_unusable(alias, ANSWER_S)
                ):
                    raise BadRequest(
                        f"model {alias} can't be compared: {why}; 'whyrank models probe "
                        f"{alias}' asks it alone"
                    )
            yield cls(service, members)
        finally:
            for member in members.values():
                if member is not service:
                    await member.leave_to(service)
            await service.close()

    async def ask(
        self, question: ComparedCase, step: Callable[[str], None] = lambda alias: None
    ) -> Answers:
        """Asks one model after the other, so that none waits for another's work, calls `step` with
        the alias after each, and returns all rankings. Raises `BadRequest` if there are fewer than
        two candidates."""
        candidates = await self._candidates(question.request)
        rankings = {}
        for alias, member in self._members.items():
            fields = {"model": alias, "candidates": candidates, "top_n": len(candidates)}
            explain = {} if self._can_explain(alias) else {"explain": "none"}
            rankings[alias] = await member.recommender.recommend(
                question.request.model_copy(update={**fields, **explain})
            )
            step(alias)
        return Answers(question, candidates, rankings)

    async def _candidates(self, request: RecommendRequest) -> list[str]:
        """Returns the ids of the prior's first items: as many as a model judges, and at least
        `top_n`. Behind these every model keeps the prior's order. Raises `BadRequest` for fewer
        than two."""
        settings = self._service.settings
        size = max(request.top_n, min(settings.rank.depth, settings.limits.top_n))
        plain = request.model_copy(update={"strategy": "prior", "explain": "none", "top_n": size})
        ranking = await self._service.recommender.recommend(plain)
        candidates = [item.item_id for item in ranking.items]
        if len(candidates) < 2:
            raise BadRequest(
                f"user {request.user_id}: {len(candidates)} candidates, nothing to order; 'whyrank "
                f"ingest' takes items"
            )
        return candidates

    def _can_explain(self, alias: str) -> bool:
        """Returns whether a model can write reasons. A model in this process only tells
        likelihoods."""
        return alias == PRIOR or self._service.settings.models[alias].backend != "local"


async def _check_known(service: Service, people: Sequence[str]) -> None:
    """Raises `BadRequest` if users are unknown, naming the first five of them."""
    unknown = []
    for user in people:
        try:
            await service.records.user(user)
        except NotFound:
            unknown.append(user)
    if unknown:
        names = ", ".join(map(repr, unknown[:5]))
        names += f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise BadRequest(f"no user {names}: they declared nothing and did nothing")


async def _with_own_reasons(service: Service, alias: str) -> Service:
    """Returns a service whose reasons the model `alias` writes; `service` itself if that holds
    already, or if the model writes none."""
    settings = service.settings
    if alias in {PRIOR, settings.roles.explain} or settings.models[alias].backend == "local":
        return service
    return await service.reloaded(settings.changed({"roles": {"explain": alias}}))


# ── the fold ──────────────────────────────────────────────────────────────────────────────────────


def agreements(answers: Sequence[Answers], k: int) -> list[Agreement]:
    """Returns the agreement of every two models, as means over the answers. `k`: the depth of
    overlap@k."""
    pairs = []
    for first, second in combinations(answers[0].rankings, 2):
        served = [(answer.order(first), answer.order(second)) for answer in answers]
        own = [(answer.own(first), answer.own(second)) for answer in answers]
        taus = [kendall(*orders) for orders in own if all(orders)]
        pairs.append(
            Agreement(
                one=first,
                other=second,
                tau=fmean(kendall(*orders) for orders in served),
                overlap=fmean(overlap(*orders, k) for orders in served),
                own=fmean(taus) if taus else None,
            )
        )
    return pairs


def figures(answers: Sequence[Answers], alias: str) -> Figures:
    """Returns what the rankings by the model `alias` took, over all answers."""
    rankings = [answer.rankings[alias] for answer in answers]
    costs = [ranking.usage.cost for ranking in rankings if ranking.usage.cost is not None]
    judged = [answer for answer in answers if answer.question.relevant]
    return Figures(
        seconds=median(ranking.timings.total_ms for ranking in rankings) / 1000,
        read=fmean(ranking.usage.prompt_tokens for ranking in rankings),
        written=fmean(ranking.usage.completion_tokens for ranking in rankings),
        cost=1000 * sum(costs) / len(rankings) if costs else None,
        degraded=fmean(ranking.degraded is not None for ranking in rankings),
        quality=_quality(
            [HEADLINE.of(answer.order(alias), answer.question.relevant) for answer in judged]
        ),
    )


def _quality(values: Sequence[float]) -> tuple[float, float, float] | None:
    return (fmean(values), *stats.interval(values)) if values else None

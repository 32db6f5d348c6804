"""Models beside each other on the same candidates: planted orders must be found, and what they
cost."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eval.compare import (
    Answers,
    ComparedCase,
    Panel,
    agreements,
    figures,
    parse_aliases,
    questions_of_people,
)
from service.build import build
from service.config import Settings
from service.errors import BadRequest, ModelError, ModelOverloaded
from service.llm import Call
from service.schema import PRIOR, RecommendRequest
from tests.conftest import FILMS, backwards, for_a_reason, letters_of
from tests.scripted import ScriptedLLM

PEOPLE = ("u", "v")
Answer = Callable[[Call], str | ModelError]
Ask = Callable[..., Any]


def forwards(call: Call) -> str:
    return backwards(call) if for_a_reason(call) else " ".join(letters_of(call))


def tired(call: Call) -> str | ModelError:
    return ModelOverloaded("HTTP 503") if "Candidates:" in call.messages[-1]["content"] else "QXJ"


@pytest.fixture
def ask(settings: Settings) -> Ask:
    """`await ask({alias: answer}, *more aliases)`: what models with a price make of two people; and
    the models."""

    async def one(
        answers: dict[str, Answer],
        *more: str,
        explain: str = "none",
        fallback: tuple[str, ...] = (),
    ) -> tuple[list[Answers], dict[str, ScriptedLLM]]:
        tiny = {
            **settings.models["tiny"].model_dump(),
            "weight": 1.0,
            "price": {"input": 1, "output": 10},
        }
        changed = settings.changed({"models": dict.fromkeys(answers, tiny), "fallback": fallback})
        llms = {alias: ScriptedLLM(answer, alias=alias) for alias, answer in answers.items()}
        maker = partial(build, llms=llms)
        service = await maker(changed)
        await service.ingest.items(FILMS)
        await service.ingest.embed_pending()
        await service.ingest.events(
            [{"user_id": user, "item_id": "alien", "type": "rating", "value": 5} for user in PEOPLE]
        )
        await service.close()
        questions = [
            ComparedCase(RecommendRequest.model_validate({"user_id": user, "explain": explain}))
            for user in PEOPLE
        ]
        async with Panel.open(maker, changed, [*answers, *more], questions) as panel:
            return [await panel.ask(question) for question in questions], llms

    return one


async def test_the_same_orders_agree_and_reversed_ones_oppose(ask: Ask) -> None:
    answers, llms = await ask({"one": forwards, "twin": forwards, "other": backwards})
    found = {(pair.one, pair.other): pair for pair in agreements(answers, 3)}
    same, reverse = found["one", "twin"], found["one", "other"]
    assert (same.tau, same.own, same.overlap) == (1, 1, 1)
    assert (reverse.tau, reverse.own, reverse.overlap) == (-1, -1, 0)
    assert agreements(answers, 5)[1].overlap == pytest.approx(3 / 5)  # the middle three of seven
    assert agreements(answers, 99)[1].overlap == 1
    assert len(found) == 3
    shown = {
        alias: [
            call.messages for call in llm.calls if "Candidates:" in call.messages[-1]["content"]
        ]
        for alias, llm in llms.items()
    }
    assert len(shown["one"]) == len(PEOPLE)
    assert shown["one"] == shown["twin"] == shown["other"]


async def test_every_model_ranks_all_of_what_the_prior_chose(ask: Ask) -> None:
    answers, _ = await ask({"one": forwards, "other": backwards}, PRIOR)
    for each in answers:
        assert {tuple(sorted(each.order(alias))) for alias in each.rankings} == {
            tuple(sorted(each.candidates))
        }
        assert each.order(PRIOR) == each.order("one") == each.order("other")[::-1]
        assert "alien" not in each.candidates
    assert [pair.own for pair in agreements(answers, 3) if PRIOR in {pair.one, pair.other}] == [
        1,
        -1,
    ]


async def test_means_are_of_time_tokens_money_and_failures(ask: Ask) -> None:
    answers, llms = await ask({"one": forwards, "tired": tired}, PRIOR, fallback=("one",))
    one, failed, prior = (figures(answers, alias) for alias in ("one", "tired", PRIOR))
    words = sum(len(message["content"].split()) for message in llms["one"].calls[-1].messages)
    assert (one.read, one.written, one.degraded) == (words, 7, 0)
    assert one.cost == pytest.approx(1000 * (words + 70) / 1e6)
    assert (failed.degraded, answers[0].rankings["tired"].model) == (1, "one")
    assert (prior.read, prior.cost, prior.degraded, prior.quality) == (0, None, 0, None)
    assert one.seconds > 0
    assert next((pair.tau, pair.own) for pair in agreements(answers, 3)) == (
        1,
        None,
    )  # it was the other one's answer


async def test_each_model_writes_its_own_reasons(ask: Ask) -> None:
    answers, llms = await ask({"one": forwards, "other": backwards}, PRIOR, explain="short")
    asked = [sum(for_a_reason(call) for call in llm.calls) for llm in llms.values()]
    assert asked[0] == asked[1] > 0
    assert all(
        item.reason
        for each in answers
        for ranking in each.rankings.values()
        for item in ranking.items
    )


async def test_a_case_that_names_its_answers_tells_who_finds_them(ask: Ask) -> None:
    answers, _ = await ask({"one": forwards, "other": backwards})
    known = [
        Answers(
            ComparedCase(each.question.request, frozenset(each.order("one")[:1])),
            each.candidates,
            each.rankings,
        )
        for each in answers
    ]
    assert figures(known, "one").quality == (1, 1, 1)
    assert figures(known, "other").quality == pytest.approx(
        (1 / 3, 1 / 3, 1 / 3)
    )  # at the seventh place: 1 / log2(8)


async def test_a_model_that_does_not_answer_is_no_column(ask: Ask) -> None:
    with pytest.raises(BadRequest, match="model dead can't be compared: overload"):
        await ask({"one": forwards, "dead": lambda _: ModelOverloaded("HTTP 503")})


def test_aliases_are_taken_one_by_one_or_with_commas(settings: Settings) -> None:
    assert parse_aliases(["tiny, whyrank-prior", "tiny"], settings) == ["tiny", PRIOR]
    for given in ([], ["tiny"], ["tiny,tiny"], [",", "tiny"]):
        with pytest.raises(BadRequest, match=r"at least two models .* known: whyrank-prior, tiny"):
            parse_aliases(given, settings)


def test_people_are_read_one_a_line_each_once(tmp_path: Path) -> None:
    file = tmp_path / "users.txt"
    file.write_text("u\n\n v \nu\n")
    found = questions_of_people(file, RecommendRequest(instruction="light"))
    assert [(one.request.user_id, one.request.instruction) for one in found] == [
        ("u", "light"),
        ("v", "light"),
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "holds no user id"), (b"\xff\xfe", "UTF-8"), (b"..", "may not be"), (b"x" * 300, "256")],
)
def test_a_file_of_something_else_is_told_by_its_name(
    tmp_path: Path, content: bytes, told: str
) -> None:
    (tmp_path / "users.txt").write_bytes(content)
    with pytest.raises(BadRequest, match=rf"users\.txt: .*{told}"):
        questions_of_people(tmp_path / "users.txt", RecommendRequest())

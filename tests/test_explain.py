import asyncio

import pytest

from service.config import HOUSE
from service.errors import ModelError, ModelUnreachable
from service.explain import Explained, explain, finished, grammar, grounded
from service.llm.scripted import ScriptedLLM
from service.prompts import PromptLibrary
from service.schema import Candidate, Event, Item, Reason, Recent, UserState

ALIEN = Item(id="alien", title="Alien", attributes={"year": 1979, "genre": ["Horror", "Sci-Fi"]})
GATTACA = Item(id="gattaca", title="Gattaca", attributes={"year": 1997, "genre": ["Drama", "Sci-Fi"]})
THING = Item(id="thing", title="The Thing", attributes={"year": 1982, "genre": ["Horror", "Sci-Fi"]})
HEAT = Item(id="heat", title="Heat", attributes={"year": 1995, "genre": ["Action", "Crime"]})


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("is a horror story with sci-fi elements.", True),
        ("mixes Horror and Sci-Fi.", True),
        ("has horrors and sci-fi.", True),
        ("is a horror film about a vampire hunter.", False),
        ("is a tense action thriller.", False),
        ("is a crime drama.", False),
        ("is sci-fi like Heat.", False),
        ("is sci-fi by Ridley Scott.", False),
        ("is sci-fi from 1950.", False),
        ("is sci-fi of 1982.", True),
        ("is a great film.", False),
        ("is sci-fi as in h2.", False),
        ('is sci-fi like "Casablanca".', False),
        ("", False),
    ],
)
def test_a_clause_stands_only_if_every_claim_can_be_looked_up(text: str, holds: bool) -> None:
    assert grounded(text, THING, [ALIEN]) is holds


def test_an_attribute_must_be_shared_with_every_cited_item() -> None:
    assert not grounded("is a horror film.", THING, [ALIEN, GATTACA])
    assert grounded("is a sci-fi film.", THING, [ALIEN, GATTACA])


def test_a_clause_cut_by_the_bound_ends_at_its_last_comma() -> None:
    assert finished("is sci-fi, and " + "x" * 100 + ".") == "is sci-fi."
    assert finished("is " + "x" * 100 + ".") == ""


def person() -> UserState:
    def rated(item: Item) -> Recent:
        event = Event(user_id="u", type="rating", value=5, item_id=item.id)
        return Recent(event=event, item=item, weight=1, verb="rated")

    return UserState(recent=(rated(ALIEN), rated(GATTACA)))


async def told(answer: str | ModelError, *, top: int = 5, seconds: float = 5) -> tuple[list[Reason], Explained]:
    prompt = PromptLibrary(HOUSE / "prompts").find("explain", "movies", None)
    chosen = [Candidate(item=THING, prior=1), Candidate(item=HEAT, prior=0.5, sources={"popular": 1})]
    deadline = asyncio.get_running_loop().time() + seconds
    llm = ScriptedLLM(lambda call: answer)
    parts = [part async for part in explain(person(), chosen, llm, prompt, top=top, deadline=deadline, line_tokens=96)]
    return [part for part in parts if isinstance(part, Reason)], next(part for part in parts if isinstance(part, Explained))


async def test_a_true_clause_stands_after_the_title_it_cites() -> None:
    reasons, rest = await told("A [h1] is horror in a sci-fi setting.\n")
    assert reasons[0].reason == 'Like "Alien", it is horror in a sci-fi setting.'
    assert (reasons[0].evidence, reasons[0].grounded) == (["alien"], True)
    assert (reasons[1].reason, reasons[1].evidence) == ("Popular with others.", [])
    assert rest.degraded is None


@pytest.mark.parametrize("answer", ["A [h1] is a romance.", "A [h7] is sci-fi.", "nonsense", "A [h1] is horror"])
async def test_a_false_or_broken_line_becomes_a_true_template(answer: str) -> None:
    reasons, _ = await told(answer)
    assert reasons[0].reason == 'Shares Horror and Sci-Fi with "Alien", which you rated 5.'
    assert (reasons[0].evidence, reasons[0].grounded) == (["alien"], False)


@pytest.mark.parametrize(("answer", "reason"), [(ModelUnreachable("no"), "unreachable"), ("", "invalid_output")])
async def test_without_a_model_templates_answer_and_say_so(answer: str | ModelError, reason: str) -> None:
    reasons, rest = await told(answer)
    assert len(reasons) == 2
    assert rest.degraded is not None
    assert rest.degraded.reason == reason


async def test_a_deadline_in_the_past_gives_templates() -> None:
    reasons, rest = await told("A [h1] is horror.", seconds=-1)
    assert len(reasons) == 2
    assert rest.degraded is not None
    assert rest.degraded.reason == "timeout"


def test_the_grammar_offers_each_item_only_its_own_evidence() -> None:
    rules = grammar([[2], [1, 3]])
    assert '"A [" ("h2")' in rules
    assert '"B [" ("h1" | "h3" | "h1,h3")' in rules

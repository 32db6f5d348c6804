"""A recorder in the place of a hosted model and a hosted embedder: what careless people write never
gets there.

`make test` asks 150 times; with HOSTILE=all, as in `make verify`, a thousand times.
"""

import json
import os
import re
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import Request
from typer.testing import CliRunner

from service.api import create_app
from service.build import Service, build
from service.cli import app
from service.config import HOUSE, Settings
from service.context import CallContext
from service.errors import BadRequest, NotFound
from service.prompts import LETTERS
from service.schema import ChatRequest, RecommendRequest, RerankRequest, UserState
from tests.conftest import Make
from tests.fake_openai import FakeOpenAI
from tests.test_redact import CARDS, IBANS, WAYS

Serve = Callable[[Any], Any]
Filled = Callable[[Settings, list[Any]], Awaitable[Service]]
REQUESTS = 1_000 if os.environ.get("HOSTILE") == "all" else 150
PEOPLE = 40
STRATEGIES = ["listwise", "keyed", "first_token", "pointwise", "likelihood", "auto"]
KINDS = ["Drama", "Horror", "Comedy", "Romance"]
NIGHTS = [
    "Amber",
    "Birch",
    "Cedar",
    "Delta",
    "Ember",
    "Fjord",
    "Grove",
    "Harbor",
    "Island",
    "Jungle",
    "Kettle",
    "Lantern",
]
FILMS = [
    {
        "id": f"itm-{n}",
        "title": f"{word} Night" + (" by call@studio.example" if n == 3 else ""),
        "text": f"Order at +49 170 7654{n:03}, or pay {CARDS[0]}.",
        "attributes": {"genre": [KINDS[n % 4], KINDS[(n + 1) % 4]], "internal": f"hushhush{n}"},
    }
    for n, word in enumerate(NIGHTS)
]


class Recorder(FakeOpenAI):
    """A model that does its work, and an embedder; keeps every text that came. `told`: to the
    model, `embedded`: the other."""

    def __init__(self) -> None:
        super().__init__("obeys")
        self.told: list[str] = []
        self.embedded: list[str] = []
        self.app.post("/v1/embeddings")(self.embeddings)

    async def tokenize(self, request: Request) -> dict[str, Any]:
        self.told.append(text := (await request.json())["prompt"])
        return {
            "tokens": [ord(text[0])]
            if text in {"Yes", "yes", "No", "no"}
            else [ord(char) for char in text]
        }

    async def embeddings(self, request: Request) -> dict[str, Any]:
        texts = (await request.json())["input"]
        self.embedded += texts
        rows = [[float(text.lower().count(chr(97 + n)) + 1) for n in range(26)] for text in texts]
        return {"data": [{"index": n, "embedding": row} for n, row in enumerate(rows)]}

    def _text(self, body: dict[str, Any]) -> str:
        self.told += [message["content"] for message in body["messages"]]
        grammar = (body.get("structured_outputs") or {}).get("grammar", "")
        if "qxj" in json.dumps(body):  # the probe
            return super()._text(body)
        if body.get("response_format"):
            names = body["response_format"]["json_schema"]["schema"]["properties"]
            return json.dumps({name: n % 11 for n, name in enumerate(names)})
        if count := re.search(r"bit_count_eq\(\[0:(\d+)\]", grammar):
            return " ".join(LETTERS[: int(count[1])])
        if "head0" in grammar:
            fact = re.findall(
                r"^f1\) (.+?)(?:, | and |$)", body["messages"][1]["content"], re.MULTILINE
            )[-1]
            return f"A [f1] is also {fact}."
        return "Drama"

    @property
    def all(self) -> str:
        return "\n".join([*self.told, *self.embedded])


def bare(text: str) -> str:
    """Letters and digits only, so that no way of writing hides anything from the search either."""
    plain = "".join(
        str(unicodedata.digit(char, char))
        for char in unicodedata.normalize("NFKD", text.casefold())
    )
    return re.sub(
        r"[\W_]",
        "",
        "".join(char for char in plain if unicodedata.category(char) not in {"Cf", "Mn"}),
    )


class Person:
    """Somebody who writes what they should not."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.user_id = f"usr-{n:03}"
        self.hides = n % 5 == 0
        self.name = f"Zenobia Quirk{LETTERS[n % 26]}{LETTERS[n // 26]}"
        self.marker = f"zqmarker{n:03}zq"
        way = [*WAYS.values()][n % len(WAYS)]
        self.secrets = {
            "email": (
                mail := f"secretbox{n:03}@mail.example",
                ["as it is", "wide", "invisible"][n % 3],
            ),
            "card": (CARDS[n % len(CARDS)], ""),
            "iban": (IBANS[n % len(IBANS)], ""),
            "phone": (phone := f"+49 170 {1234000 + n}", ["as it is", "wide", "joined"][n % 3]),
        }
        written = [WAYS[self.secrets["email"][1]](mail), WAYS[self.secrets["phone"][1]](phone)]
        written += [
            way(self.secrets["card"][0]),
            way(self.secrets["iban"][0]),
            f"0170 {1234000 + n}",
        ]
        self.says = [f"{one} for {self.name}" for one in written]
        self.says += [
            f"I am {self.user_id.upper()} and liked itm-{n % 12}",
            f"to {n + 1} Secretive{LETTERS[n % 26]} Street",
        ]

    def words(self, turn: int) -> str:
        said = self.says[turn % len(self.says)]
        return (
            f"{self.marker}: scary films, {said}, please"
            if self.hides
            else f"scary films, {said}, please"
        )

    def forbidden(self) -> list[str]:
        """None of it may be in what came, even in part."""
        found = [bare(secret) for secret, _ in self.secrets.values()]
        found += [
            bare(self.user_id),
            bare(self.name),
            bare(f"Secretive{LETTERS[self.n % 26]}"),
            f"0170{1234000 + self.n}",
        ]
        return [*found, self.marker]

    def rows(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        attributes = {"city": f"Hiddentown {self.marker}", "taste": f"noir, says {self.name}"}
        events: list[dict[str, Any]] = [
            {
                "user_id": self.user_id,
                "type": "rating",
                "value": 5,
                "item_id": f"itm-{(self.n + m) % 12}",
                "event_id": f"{self.n}-{m}",
            }
            for m in range(3)
        ]
        events += [
            {
                "user_id": self.user_id,
                "type": kind,
                "text": self.words(m),
                "event_id": f"{self.n}-{kind}-{m}",
                "item_id": item,
            }
            for m in range(len(self.says))
            for kind, item in (("search", None), ("comment", f"itm-{m}"))
        ]
        return {
            "user_id": self.user_id,
            "attributes": attributes,
            "allow_hosted": not self.hides,
        }, events


def hosted(settings: Settings, base: str) -> Settings:
    far = {
        "backend": "vllm",
        "model": "fake",
        "base_url": f"{base}/v1",
        "hosted": True,
        "weight": 0.5,
    }
    return settings.changed(
        {
            "models": {"tiny": far},
            "roles": {"chat": "tiny"},
            "embed": {"base_url": f"{base}/v1", "model": "theirs", "hosted": True},
            "catalog": {"filterable": {"year": "int", "genre": "list"}},
            "privacy": {
                "phone_regions": ["DE"],
                "user_attributes": ["taste"],
                "names": ["Secretive Cellar"],
            },
            "rank": {"clear_prior": 100},
            "shadow": {"model": "tiny", "share": 0.2, "strategy": "keyed"},
        }
    )


@pytest.fixture
async def filled() -> AsyncIterator[Filled]:
    """`await filled(settings, people)`: a service that knows the films and what these people
    did."""
    made: list[Service] = []

    async def one(settings: Settings, people: list[Person]) -> Service:
        service = await build(settings)
        made.append(service)
        await service.ingest.items(FILMS)
        await service.ingest.embed_pending()
        await service.models.probe("tiny")
        for person in people:
            user, events = person.rows()
            assert (await service.ingest.users([user])).accepted == 1
            assert (await service.ingest.events(events)).accepted == len(events)
        return service

    yield one
    for service in made:
        await service.close()


async def asked(service: Service, person: Person, n: int) -> str:
    """One request, of another kind each time; returns which strategy answered."""
    turn, strategy = n // PEOPLE, STRATEGIES[n % len(STRATEGIES)]
    same: dict[str, Any] = {"user_id": person.user_id, "redact": [person.name], "model": "tiny"}
    if n % 4 == 1:
        documents = [
            {
                "id": f"itm-{m}",
                "title": f"{person.marker} paper {m}" if person.hides else f"Paper {m}",
            }
            for m in range(4)
        ]
        request = RerankRequest(
            query=person.words(turn),
            documents=documents,
            strategy=strategy,
            explain="short",
            **same,
        )
        found = await service.recommender.rerank(request)
        assert len(found.places) == len(documents)
        return found.ranking.strategy
    if n % 4 == 2:
        chat = ChatRequest.model_validate(
            {
                "turns": [{"role": "user", "text": person.words(turn)}],
                "note": False,
                "strategy": strategy,
                **same,
            }
        )
        reply = [part async for part in await service.chat.answer(chat)][-1]
        assert not isinstance(reply, str)
        return reply.ranking.strategy if reply.ranking is not None else ""
    ranking = await service.recommender.recommend(
        RecommendRequest(
            instruction=person.words(turn),
            strategy=strategy,
            session_id=f"ses-{person.n:03}",
            **same,
        )
    )
    assert all(item.reason for item in ranking.items)
    return ranking.strategy


async def test_nothing_private_reaches_a_hosted_model_or_embedder(
    settings: Settings, serve: Serve, filled: Filled
) -> None:
    recorder, people = Recorder(), [Person(n) for n in range(PEOPLE)]
    service = await filled(hosted(settings, await serve(recorder.app)), people)
    answered = [await asked(service, people[n % PEOPLE], n) for n in range(REQUESTS)]
    assert {*STRATEGIES, "prior"} - {"auto"} <= {*answered}
    came = {bare(line) for text in (recorder.all,) for line in text.splitlines()}
    for person in people:
        assert [one for one in person.forbidden() if any(one in line for line in came)] == []
    told = "\n".join(recorder.told)
    assert [
        mark
        for mark in ("email", "phone", "card", "iban", "address", "name", "id")
        if f"[{mark}]" not in told
    ] == []
    assert [
        mark
        for mark in ("hushhush", "Hiddentown", "itm-", "ses-", "studio.example")
        if mark in told
    ] == []
    assert "noir, says [name]" in told
    assert "scary films" in told
    assert not re.search(r"[⟦⟧]", recorder.all)


async def test_a_person_who_is_kept_from_outside_is_still_answered_in_words(
    settings: Settings, serve: Serve, filled: Filled
) -> None:
    recorder, person = Recorder(), Person(0)
    service = await filled(hosted(settings, await serve(recorder.app)), [person])
    recorder.told, recorder.embedded = [], []
    ranking = await service.recommender.recommend(
        RecommendRequest(user_id=person.user_id, instruction="Jungle")
    )
    assert ranking.degraded is not None
    assert (ranking.degraded.reason, ranking.items[0].title) == ("not_allowed", "Jungle Night")
    assert ranking.items[0].reason
    found = await service.recommender.rerank(
        RerankRequest.model_validate(
            {
                "user_id": person.user_id,
                "query": "ghost",
                "documents": [{"text": "a"}, {"text": "ghost ship"}],
            }
        )
    )
    assert found.places == [1, 0]
    assert "kept from the embedder outside" in " ".join(found.warnings)
    chat = {"user_id": person.user_id, "turns": [{"role": "user", "text": "tell me a joke"}]}
    assert [part async for part in await service.chat.answer(ChatRequest.model_validate(chat))]
    assert recorder.all == ""


async def test_a_true_reason_in_the_models_words_is_still_given(
    settings: Settings, serve: Serve, filled: Filled
) -> None:
    recorder, person = Recorder(), Person(1)
    service = await filled(hosted(settings, await serve(recorder.app)), [person])
    ranking = await service.recommender.recommend(
        RecommendRequest(user_id=person.user_id, strategy="listwise")
    )
    assert any(item.signals["grounded"] for item in ranking.items)


async def test_a_hosted_model_for_likelihoods_sees_no_more(
    settings: Settings, serve: Serve, filled: Filled
) -> None:
    recorder, person = Recorder(), Person(2)
    service = await filled(
        hosted(settings, await serve(recorder.app)).changed({"roles": {"score": "tiny"}}), [person]
    )
    ranking = await service.recommender.recommend(
        RecommendRequest(user_id=person.user_id, strategy="likelihood")
    )
    assert ranking.degraded is None
    assert "Delta Night by [email]\n" in recorder.told
    assert [
        one
        for one in ("studio.example", "hushhush", *person.forbidden())
        if one in "\n".join(recorder.told)
    ] == []


async def test_a_body_may_list_names_on_every_face(
    settings: Settings, serve: Serve, filled: Filled
) -> None:
    recorder, person = Recorder(), Person(1)
    service = await filled(hosted(settings, await serve(recorder.app)), [person])

    async def ready(_: Settings) -> Service:
        return service

    base = await serve(create_app(service.settings, ready))
    wish = "something for Quentin Quale's party"
    who: dict[str, Any] = {
        "user_id": person.user_id,
        "redact": ["quentin quale"],
        "strategy": "listwise",
    }
    bodies: dict[str, dict[str, Any]] = {
        "/v1/recommendations": {"instruction": wish},
        "/v1/rerank": {"query": wish, "documents": ["a", "b"]},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": wish}]},
    }
    async with httpx.AsyncClient(base_url=base, timeout=60) as client:
        for path, body in bodies.items():
            recorder.told = []
            answer = await client.post(path, json={**who, **body})
            assert answer.status_code == 200, answer.text
            assert "[name]'s party" in "\n".join(recorder.told), path
            for bad in (["x" * 101], [""], ["x"] * 101, "Ann", [1], None):
                refused = await client.post(path, json={**who, **body, "redact": bad})
                assert (refused.status_code, "redact" in refused.text) == (422, True), (path, bad)
    assert "quentin" not in recorder.all.lower()


async def test_a_preview_is_what_a_model_is_sent(
    settings: Settings, serve: Serve, filled: Filled
) -> None:
    recorder, person, hidden = Recorder(), Person(1), Person(0)
    service = await filled(hosted(settings, await serve(recorder.app)), [person, hidden])
    wish = f"like itm-2, mail {person.secrets['email'][0]}"
    for strategy in ("listwise", "keyed", "first_token"):
        request = RecommendRequest(
            user_id=person.user_id, instruction=wish, strategy=strategy, explain="none"
        )
        shown = await service.previewer.preview(request, "rank", "tiny")
        call = CallContext(exchanges=[])
        await service.recommender.recommend(request, call)
        exchanges = call.exchanges or []
        assert shown.messages == exchanges[-1].messages
        assert (shown.leaves, shown.redacted["email"] >= 1, shown.redacted["id"] >= 1) == (
            True,
            True,
            True,
        )
    told = (await service.previewer.preview(request, "explain")).messages[-1]["content"]
    assert person.secrets["email"][0] not in told
    assert (
        await service.previewer.preview(RecommendRequest(user_id=hidden.user_id), "rank")
    ).messages == []
    with pytest.raises(NotFound, match="model"):
        await service.previewer.preview(request, "rank", "whyrank")
    near = service.settings.changed(
        {"models": {"tiny": {"hosted": False}, "here": {"backend": "local", "model": "x"}}}
    )
    inside = await filled(near, [])
    plain = await inside.previewer.preview(
        RecommendRequest(user_id=person.user_id, instruction="mail a@b.org"), "rank", "tiny"
    )
    assert (plain.leaves, plain.redacted) == (False, {})
    assert "a@b.org" in plain.messages[-1]["content"]
    with pytest.raises(BadRequest, match="likelihoods only"):
        await inside.previewer.preview(request, "rank", "here")
    with pytest.raises(BadRequest, match=r"roles\.score"):
        await inside.previewer.preview(request, "score")


@pytest.mark.parametrize(
    ("embed", "leaves"),
    [
        ({}, False),
        ({"base_url": "https://api.example.com/v1", "model": "m"}, True),
        ({"base_url": "http://10.0.0.7/v1", "model": "m"}, False),
        ({"base_url": "http://10.0.0.7/v1", "model": "m", "hosted": True}, True),
        ({"base_url": "https://api.example.com/v1", "model": "m", "hosted": False}, False),
    ],
)
def test_an_embedder_is_outside_as_a_model_is(
    settings: Settings, embed: dict[str, Any], leaves: bool
) -> None:
    assert settings.changed({"embed": embed}).embed.leaves_the_house is leaves


def test_the_command_shows_what_would_be_sent(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHYRANK_DATA", str(tmp_path))
    monkeypatch.setenv("WHYRANK_MODELS__TINY__HOSTED", "true")
    monkeypatch.setenv("COLUMNS", "200")
    config = ["--config", str(HOUSE / "configs" / "test.yaml")]
    for feed, row in (
        ("items", {"id": "a-film", "title": "Alien"}),
        ("users", {"user_id": "u", "allow_hosted": False}),
    ):
        (tmp_path / feed).write_text(json.dumps(row) + "\n")
        done = CliRunner().invoke(
            app, [*config, "ingest", feed, str(tmp_path / feed), "--format", "jsonl"]
        )
        assert done.exit_code == 0, done.output
    said = ["--instruction", "mail a@b.org or c@d.org about a-film", "--model", "tiny"]
    shown = CliRunner().invoke(app, [*config, "prompts", "preview", "v", *said])
    assert (shown.exit_code, "a@b.org" in shown.output) == (0, False), shown.output
    assert "tiny is outside: redacted 2 email, 1 id" in shown.output
    hidden = CliRunner().invoke(app, [*config, "prompts", "preview", "u", *said])
    assert "nothing would be sent" in hidden.output
    unknown = CliRunner().invoke(app, [*config, "prompts", "preview", "v", "--model", "ghost"])
    assert (unknown.exit_code, "tiny" in unknown.output) == (2, True)


def test_an_empty_person_passes_the_veil(settings: Settings) -> None:
    from service.privacy import PatternRedactor, Redaction

    assert Redaction(PatternRedactor(), frozenset(), frozenset()).shown(UserState(), [], None) == (
        UserState(),
        [],
        None,
    )


async def test_no_part_of_a_service_shows_its_settings_where_a_log_prints_it(make: Make) -> None:
    """A crash's log may show the values of a function's names, and settings hold secrets."""
    service = await make()
    parts = {name: part for name, part in vars(service).items() if name != "settings"}
    parts["understanding"] = service.chat.understanding
    assert [name for name, part in parts.items() if "Settings(" in repr(part)] == []

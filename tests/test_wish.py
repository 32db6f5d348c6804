"""What is asked for in words is what comes: wishes in seven languages, with "no" and "but"."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api import create_app
from service.catalog import Facets
from service.config import Settings
from service.language import language_of
from service.llm import Call
from service.retrieve.wish import names
from service.schema import (
    Document,
    Filter,
    Item,
    Ranking,
    RecommendRequest,
    RerankRequest,
    Wish,
)
from service.wish import Vocabulary, read
from service.wish.wordings import LANGUAGES, things, wording
from tests.conftest import FILMS, Make, backwards
from tests.injections import ORDERS
from tests.scripted import ScriptedLLM
from tests.test_samples import made

Serve = Callable[[Any], Any]
GENRES = [
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]
CINEMA = Vocabulary(Facets({"genre": GENRES}, {"year": (1980, 1996)}))
SHOP = Vocabulary(
    Facets(
        {
            "category": ["coffee", "tea", "camping", "baby", "stationery", "kitchen"],
            "kind": ["tent", "pen", "knife", "kettle", "beans"],
        },
        {"price": (40.0, 200.0)},
    )
)
RECORDS = Vocabulary(
    Facets(
        {"style": ["rock", "jazz", "classical", "hip-hop"]},
        {"tempo": (80, 140), "minutes": (3, 6), "year": (1970, 2010)},
    )
)
SHELF = Vocabulary(
    Facets({"genre": ["poetry", "biography", "Horror", "Romance"]}, {"pages": (150, 600)})
)


def told(wish: Wish) -> dict[str, dict[str, Any]]:
    return {key: one.model_dump(exclude_none=True) for key, one in wish.filters.items()}


# ── by rules ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "wanted", "avoided"),
    [
        ("no horror", [], ["Horror"]),
        ("without comedies, something with action", ["Action"], ["Comedy"]),
        ("anything but science fiction", [], ["Sci-Fi"]),
        ("something for tonight, no horror, war or musicals", [], ["Horror", "Musical", "War"]),
        ("no horror, a comedy please", ["Comedy"], ["Horror"]),
        ("horror is out for me, I want a western", ["Western"], ["Horror"]),
        ("rather a western than a musical", ["Western"], ["Musical"]),
        ("instead of a drama, a thriller", ["Thriller"], ["Drama"]),
        ("Crime films? No. A romance!", ["Romance"], ["Crime"]),
        ("comedies bore me, so show me something else", [], ["Comedy"]),
        ("not only comedies", ["Comedy"], []),
        ("a romantic comedy", ["Comedy", "Romance"], []),
        ("nothing scary", [], ["Horror"]),
        ("etwas Spannendes, auf keinen Fall Horror oder Krieg", ["Thriller"], ["Horror", "War"]),
        ("Weder Western noch Musicals, bitte", [], ["Musical", "Western"]),
        ("Horror mag ich nicht, lieber eine Komödie", ["Comedy"], ["Horror"]),
        ("Kriegsfilme kannst du weglassen", [], ["War"]),
        ("Was war das für ein Krimi!", ["Crime"], []),
        ("algo de acción pero sin guerra", ["Action"], ["War"]),
        ("eine Komödie, aber nichts Albernes", ["Comedy"], []),
        ("Cualquier cosa menos comedias o musicales", [], ["Comedy", "Musical"]),
        ("No me gusta el terror, mejor una comedia", ["Comedy"], ["Horror"]),
        ("une comédie, mais surtout pas d'horreur", ["Comedy"], ["Horror"]),
        ("Plutôt un thriller qu'un film de guerre", ["Thriller"], ["War"]),
        ("Les westerns, très peu pour moi", [], ["Western"]),
        ("une comédie musicale", ["Musical"], []),
        ("любую комедию, только не ужасы", ["Comedy"], ["Horror"]),
        ("Без вестернов и без мюзиклов", [], ["Musical", "Western"]),
        ("Не могли бы вы посоветовать вестерн?", ["Western"], []),
        ("来点喜剧，不要恐怖片", ["Comedy"], ["Horror"]),
        ("恐怖片就算了，想看科幻", ["Sci-Fi"], ["Horror"]),
        ("有没有爱情片？战争片就不用了", ["Romance"], ["War"]),
        ("ホラー以外の映画", [], ["Horror"]),
        ("SF映画がいい、戦争ものは見たくない", ["Sci-Fi"], ["War"]),
        ("コメディの代わりにミステリー", ["Mystery"], ["Comedy"]),
    ],
)
def test_what_is_named_is_wanted_or_refused(
    text: str, wanted: list[str], avoided: list[str]
) -> None:
    wish = read(text, CINEMA)
    assert (sorted(wish.wanted), sorted(wish.avoided)) == (wanted, avoided)


@pytest.mark.parametrize(
    ("text", "vocabulary", "filters"),
    [
        ("a comedy not from the 90s", CINEMA, {"year": {"none": [*range(1990, 2000)]}}),
        ("films from the eighties", CINEMA, {"year": {"gte": 1980, "lt": 1990}}),
        ("nothing older than 1990", CINEMA, {"year": {"gte": 1990}}),
        ("etwas aus den 70ern", CINEMA, {"year": {"gte": 1970, "lt": 1980}}),
        ("bitte nichts, was vor 1985 gedreht wurde", CINEMA, {"year": {"gte": 1985}}),
        ("algo de los años 60", CINEMA, {"year": {"gte": 1960, "lt": 1970}}),
        ("un film d'avant 1980", CINEMA, {"year": {"lt": 1980}}),
        ("что-нибудь до 1970 года", CINEMA, {"year": {"lt": 1970}}),
        ("八十年代的片子", CINEMA, {"year": {"gte": 1980, "lt": 1990}}),
        ("1995年以降の映画", CINEMA, {"year": {"gte": 1995}}),
        ("an old film", CINEMA, {"year": {"lte": 1980}}),
        ("any recent movies?", CINEMA, {"year": {"gte": 1996}}),
        ("a 10-year-old fan of films", CINEMA, {}),
        ("under 100 yuan", SHOP, {"price": {"lt": 100}}),
        ("100元以内", SHOP, {"price": {"lte": 100}}),
        ("höchstens 80 Euro", SHOP, {"price": {"lte": 80}}),
        ("nicht teurer als 1.200 €", SHOP, {"price": {"lte": 1200}}),
        ("entre 50 y 120 euros", SHOP, {"price": {"gte": 50, "lte": 120}}),
        ("moins de 60 €", SHOP, {"price": {"lt": 60}}),
        ("не дороже 300 рублей", SHOP, {"price": {"lte": 300}}),
        ("500円以下", SHOP, {"price": {"lte": 500}}),
        ("$50 or less", SHOP, {"price": {"lte": 50}}),
        ("nothing over 200", SHOP, {"price": {"lt": 200}}),
        ("at least 300 yuan", SHOP, {"price": {"gte": 300}}),
        ("200到300元", SHOP, {"price": {"gte": 200, "lte": 300}}),
        ("jazz over 120 bpm", RECORDS, {"style": {"any": ["jazz"]}, "tempo": {"gt": 120}}),
        ("rock unter 4 Minuten", RECORDS, {"style": {"any": ["rock"]}, "minutes": {"lt": 4}}),
        ("爵士，不超过5分钟", RECORDS, {"style": {"any": ["jazz"]}, "minutes": {"lte": 5}}),
        (
            "sin rock, al menos 100 bpm",
            RECORDS,
            {"style": {"none": ["rock"]}, "tempo": {"gte": 100}},
        ),
        (
            "pas de hip-hop des années 90",
            RECORDS,
            {"style": {"none": ["hip-hop"]}, "year": {"none": [*range(1990, 2000)]}},
        ),
        ("クラシック、3分以内", RECORDS, {"style": {"any": ["classical"]}, "minutes": {"lte": 3}}),
        (
            "a biography under 300 pages",
            SHELF,
            {"genre": {"any": ["biography"]}, "pages": {"lt": 300}},
        ),
        (
            "Gedichte, höchstens 120 Seiten",
            SHELF,
            {"genre": {"any": ["poetry"]}, "pages": {"lte": 120}},
        ),
        (
            "no horror, at most 200 pages",
            SHELF,
            {"genre": {"none": ["Horror"]}, "pages": {"lte": 200}},
        ),
        ("不要爱情，三百页", SHELF, {"genre": {"none": ["Romance"]}}),
        (
            "роман о любви до 250 страниц",
            SHELF,
            {"genre": {"any": ["Romance"]}, "pages": {"lte": 250}},
        ),
        (
            "una biografía de más de 400 páginas",
            SHELF,
            {"genre": {"any": ["biography"]}, "pages": {"gt": 400}},
        ),
    ],
)  # fmt: skip
def test_numbers_are_bounds_on_what_they_measure(
    text: str, vocabulary: Vocabulary, filters: dict[str, dict[str, Any]]
) -> None:
    found = told(read(text, vocabulary))
    found.pop("genre", None) if vocabulary is CINEMA else None
    assert found == filters


def test_cheap_moves_the_order_and_cheaper_is_than_what_was_shown() -> None:
    wish = read("something cheap, not tea", SHOP)
    assert (told(wish), wish.soft) == (
        {"category": {"none": ["tea"]}},
        {"price": Filter(lte=40.0)},
    )
    assert read("太贵了,有便宜一点的吗", SHOP).than == {"price": "less"}
    assert read("etwas Günstigeres bitte", SHOP).than == {"price": "less"}
    assert read("something newer", CINEMA).than == {"year": "more"}


def test_what_has_no_name_is_kept_as_words_and_what_is_sought_leaves_refusals_out() -> None:
    wish = read("tea without caffeine", SHOP)
    assert (wish.wanted, wish.avoided, wish.text) == (["tea"], ["caffeine"], "tea")
    assert read("a comedy please", CINEMA).sought == "", "the filter says it all"
    assert read("a comedy about bees", CINEMA).sought == "a comedy about bees"
    assert read("how do I brew coffee without a grinder?", SHOP).question


def test_every_language_has_every_phrase_and_every_thing_its_names() -> None:
    lacking = {"stop"}, {"stop", "rather"}, {"stop", "rather", "like", "decades"}
    allowed = {"en": lacking[0], "ru": lacking[0], "zh": lacking[1], "ja": lacking[2]}
    for language in LANGUAGES:
        fields = dict(wording(language))
        tables = (fields.pop("numbers"), fields.pop("adjectives"))
        empty = {name for table in (fields, *tables) for name, parts in table.items() if not parts}
        assert empty == allowed.get(language, set()), language
    for thing in things().values():
        assert set(thing.names) | set(thing.moods) == {*LANGUAGES}, thing.name


@given(st.text(max_size=300), st.sampled_from([CINEMA, SHOP, RECORDS]))
def test_no_text_breaks_the_reader(text: str, vocabulary: Vocabulary) -> None:
    wish = read(text, vocabulary)
    known = {value for values in vocabulary.facets.values.values() for value in values}
    assert {*wish.wanted} <= known
    Wish.model_validate(wish.model_dump())


@pytest.mark.parametrize(
    "piece", ["no horror, ", "not ", "and comedy or ", "like ", "1990 ", "不要", "ない、"]
)
def test_long_wishes_are_read_at_once(piece: str) -> None:
    wish = read(piece * 5_000, CINEMA)
    assert len(wish.avoided) <= 50


def test_an_order_in_a_wish_changes_nothing_outside_the_grammar() -> None:
    known = {*GENRES}
    for order in ORDERS:
        wish = read(order, CINEMA)
        assert {*wish.wanted} <= known
        assert wish.filters.keys() <= {"genre", "year", "id"}


# ── by the public route ───────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    rows, _, _ = made(tmp_path_factory.mktemp("shop"))
    return [
        {
            "id": row["id"],
            "title": row["title"],
            "text": row["text"],
            "available": row["available"].casefold() == "true",
            "attributes": {
                "category": row["category"],
                "kind": row["kind"],
                "price": float(row["price"]),
            },
        }
        for row in rows
    ]


@pytest.fixture
async def shop(
    make: Make, serve: Serve, settings: Settings, products: list[dict[str, Any]]
) -> AsyncIterator[httpx.AsyncClient]:
    kinds = {"category": "str", "kind": "str", "price": "float"}
    changed = settings.changed({"catalog": {"filterable": kinds}, "roles": {"rank": None}})
    service = await make(films=products, changed=changed)

    async def ready(_: Settings) -> Any:
        return service

    base = await serve(create_app(changed, ready))
    async with httpx.AsyncClient(base_url=base, timeout=30) as client:
        yield client


@pytest.fixture
async def cinema(make: Make, serve: Serve, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    service = await make()

    async def ready(_: Settings) -> Any:
        return service

    async with httpx.AsyncClient(base_url=await serve(create_app(settings, ready))) as client:
        yield client


GENRES_OF: dict[str, Any] = {
    item.id: item.attributes["genre"] for item in map(Item.model_validate, FILMS)
}


async def recommended(client: httpx.AsyncClient, wish: str, **more: Any) -> dict[str, Any]:
    body = {"instruction": wish, "top_n": 6, "model": "whyrank-prior", **more}
    answer = await client.post("/v1/recommendations", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize(
    ("wish", "refused"),
    [
        ("no horror", "Horror"),
        ("without comedies, something with drama", "Comedy"),
        ("anything but science fiction", "Sci-Fi"),
        ("Etwas Gutes, auf keinen Fall Horror oder Krieg", "Horror"),
        ("etwas Nettes, aber bitte kein Horror", "Horror"),
        ("来点好看的，不要恐怖片", "Horror"),
        ("algo bueno, nada de terror", "Horror"),
        ("pas de romance", "Romance"),
        ("только не мелодраму", "Romance"),
        ("コメディ以外で", "Comedy"),
    ],
)
async def test_what_is_refused_never_comes(
    cinema: httpx.AsyncClient, wish: str, refused: str
) -> None:
    found = await recommended(cinema, wish)
    assert found["items"]
    assert not [row for row in found["items"] if refused in GENRES_OF[row["item_id"]]]
    assert refused in found["understood"]["avoided"]
    assert refused in found["understood"]["filters"]["genre"]["none"]
    assert found["understood"]["source"] == "rules"
    for row in found["items"]:
        assert refused.casefold() not in (row["reason"] or "").casefold()


@pytest.mark.parametrize(
    ("wish", "key", "right"),
    [
        ("something cheap, not tea", "category", lambda value: value != "tea"),
        ("under 100 yuan", "price", lambda value: value < 100),
        ("100元以内", "price", lambda value: value <= 100),
        ("我要去露营,需要什么装备", "category", lambda value: value == "camping"),
        ("recommend coffee gear under 100", "category", lambda value: value == "coffee"),
        ("etwas fürs Baby", "category", lambda value: value == "baby"),
        ("algo para la cocina por menos de 150", "price", lambda value: value < 150),
        ("キッチン用品、2000円以下", "category", lambda value: value == "kitchen"),
    ],
)
async def test_a_shop_gives_what_is_asked_for(
    shop: httpx.AsyncClient,
    products: list[dict[str, Any]],
    wish: str,
    key: str,
    right: Callable[[Any], bool],
) -> None:
    held = {one["id"]: one["attributes"] for one in products}
    found = await recommended(shop, wish)
    assert found["items"]
    assert all(right(held[row["item_id"]][key]) for row in found["items"])


async def test_a_wish_that_nothing_meets_is_eased_openly(cinema: httpx.AsyncClient) -> None:
    found = await recommended(cinema, "a horror film from the 50s, no comedy")
    assert sorted(found["understood"]["relaxed"]) == ["genre", "year"]
    assert any("nothing meets all of it" in warning for warning in found["warnings"])
    assert found["items"]
    assert not [row for row in found["items"] if "Comedy" in GENRES_OF[row["item_id"]]]


async def test_a_client_corrects_what_was_understood(cinema: httpx.AsyncClient) -> None:
    first = await recommended(cinema, "no horror")
    mine = first["understood"] | {"avoided": ["Romance"], "filters": {}}
    found = await recommended(cinema, "no horror", understood=mine)
    assert found["understood"]["source"] == "request"
    assert not [row for row in found["items"] if "Romance" in GENRES_OF[row["item_id"]]]
    assert [row for row in found["items"] if "Horror" in GENRES_OF[row["item_id"]]]
    wrong = {"instruction": "x", "understood": {"filters": {"colour": {"any": ["red"]}}}}
    answer = await cinema.post("/v1/recommendations", json=wrong)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")


async def test_like_x_is_looked_for_by_x_and_x_is_not_returned(cinema: httpx.AsyncClient) -> None:
    found = await recommended(cinema, "something like Alien, but no drama", explain="full")
    assert found["understood"]["like"] == ["alien"]
    ids = [row["item_id"] for row in found["items"]]
    assert "alien" not in ids
    assert not [name for name in ids if "Drama" in GENRES_OF[name]]
    assert any("source.context" in row["signals"] for row in found["items"])


@pytest.mark.parametrize(
    ("wish", "code"),
    [("来点好看的，不要恐怖片", "zh"), ("etwas Gutes aber bitte keine Horrorfilme", "de")],
)
async def test_reasons_are_in_the_language_of_the_wish(
    cinema: httpx.AsyncClient, wish: str, code: str
) -> None:
    found = await recommended(cinema, wish)
    assert language_of(" ".join(row["reason"] for row in found["items"])) == code
    found = await recommended(cinema, wish, locale="en")
    assert language_of(" ".join(row["reason"] for row in found["items"])) == "en"


async def test_a_given_list_keeps_what_is_refused_and_puts_it_last(
    cinema: httpx.AsyncClient,
) -> None:
    named = ["alien", "notting", "heat"]
    found = await recommended(cinema, "no horror", candidates=named)
    assert {row["item_id"] for row in found["items"]} == {*named}
    assert found["items"][-1]["item_id"] == "alien"


@pytest.mark.parametrize(
    ("query", "texts", "first", "last"),
    [
        ("a film, not horror", ["horror in a hotel", "love in London", "a fast bus"], None, 0),
        ("パンの焼き方", ["猫は一日中寝ています", "おいしいパンの焼き方", "天気予報"], 1, None),
        ("红烧肉怎么做", ["今天股市下跌", "红烧肉的做法：先焯水", "如何修自行车"], 1, None),
        ("how to bake bread", ["1600", "Baking bread: mix flour and yeast, bake"], 1, 0),
        (
            "Etwas Lustiges, kein Krieg",
            ["Kriegsdrama an der Front", "Komödie unter Freunden"],
            1,
            0,
        ),
    ],
)
async def test_documents_are_ranked_by_what_a_query_means(
    cinema: httpx.AsyncClient, query: str, texts: list[str], first: int | None, last: int | None
) -> None:
    body = {"query": query, "documents": texts, "strategy": "prior"}
    answer = await cinema.post("/v1/rerank", json=body)
    places = [row["index"] for row in answer.json()["results"]]
    assert first is None or places[0] == first
    assert last is None or places[-1] == last


async def test_relevance_says_whether_anything_answers(cinema: httpx.AsyncClient) -> None:
    async def scores(query: str, texts: list[str]) -> list[float]:
        body = {"query": query, "documents": texts, "strategy": "prior"}
        answer = await cinema.post("/v1/rerank", json=body)
        return [row["relevance_score"] for row in answer.json()["results"]]

    texts = ["How to bake a sourdough bread at home", "Cats sleep most of the day"]
    assert max(await scores("quantum chromodynamics", texts)) < 0.01
    best, other = await scores("baking bread", texts)
    assert best > 0.5 > other


async def test_a_plain_number_is_no_id_and_popularity_counts_only_for_a_person(make: Make) -> None:
    film = {"id": "1600", "title": "Popular", "attributes": {"genre": ["Drama"]}}
    service = await make(films=[*FILMS, film])
    likes = [{"user_id": f"u{n}", "item_id": "1600", "type": "like"} for n in range(20)]
    await service.ingest.events(likes)
    request = RerankRequest(
        query="bread",
        strategy="prior",
        documents=[Document(text="1600"), Document(id="1600"), Document(text="bread")],
    )
    found = await service.recommender.rerank(request)
    assert found.places[0] == 2


# ── with a model ──────────────────────────────────────────────────────────────────────────────────


def reading(
    wanted: str = "none", avoided: str = "none", doubt: tuple[float, float] = (-0.1, -3)
) -> Any:
    """A model that reads a wish so, and ranks in reverse."""

    def said(call: Call) -> Any:
        last = call.messages[-1]["content"]
        if "Kinds:" in last:
            return f"kind: wish\nwanted: {wanted}\navoided: {avoided}"
        return list(doubt) if "wanted or unwanted" in last else backwards(call)

    return said


async def ranked(service: Any, text: str, **more: Any) -> Ranking:
    found: Ranking = await service.recommender.recommend(
        RecommendRequest(instruction=text, explain="none", **more)
    )
    return found


async def test_a_model_reads_what_no_rule_does_and_once(make: Make) -> None:
    llm = ScriptedLLM(reading("Romance, Nonsense"), alias="tiny")
    service = await make(llm=llm, weight=0)
    for _ in range(2):
        ranking = await ranked(service, "moonlight and a violin", strategy="auto")
        assert ranking.understood is not None
        assert (ranking.understood.wanted, ranking.understood.source) == (["Romance"], "model")
        assert "Romance" in GENRES_OF[ranking.items[0].item_id]
    assert sum("Kinds:" in call.messages[-1]["content"] for call in llm.calls) == 1


async def test_a_model_that_is_sure_turns_what_the_rules_took_for_wanted(make: Make) -> None:
    service = await make(reading(doubt=(-3.0, -0.1)), weight=0)
    ranking = await ranked(service, "horror gave my aunt the hiccups", strategy="auto")
    assert ranking.understood is not None
    assert (ranking.understood.wanted, ranking.understood.avoided) == ([], ["Horror"])
    unsure = await make(reading(doubt=(-1.0, -0.5)), weight=0)
    ranking = await ranked(unsure, "horror gave my aunt the hiccups", strategy="auto")
    assert ranking.understood is not None
    assert ranking.understood.wanted == ["Horror"]


@pytest.mark.parametrize(("keys", "avoided"), [(["genre"], ["Horror"]), (["year"], [])])
async def test_a_hosted_model_is_asked_about_values_that_it_may_see(
    make: Make, settings: Settings, keys: list[str], avoided: list[str]
) -> None:
    changed = settings.changed(
        {"models": {"tiny": {"hosted": True}}, "privacy": {"item_attributes": keys}}
    )
    llm = ScriptedLLM(reading(doubt=(-3.0, -0.1)), alias="tiny")
    service = await make(llm=llm, changed=changed, weight=0)
    ranking = await ranked(service, "horror gave my aunt the hiccups", strategy="auto")
    assert ranking.understood is not None
    assert ranking.understood.avoided == avoided
    doubts = [call for call in llm.calls if "wanted or unwanted" in call.messages[-1]["content"]]
    assert len(doubts) == len(avoided)


@pytest.mark.parametrize(
    "more", [{"strategy": "prior"}, {"model": "whyrank-prior"}, {"model": "whyrank-fast"}]
)
async def test_no_model_reads_where_none_is_to_be_asked(make: Make, more: dict[str, str]) -> None:
    llm = ScriptedLLM(reading("Romance"), alias="tiny")
    service = await make(llm=llm)
    ranking = await ranked(service, "moonlight and a violin", **more)
    assert ranking.understood is not None
    assert ranking.understood.source == "rules"
    assert not [call for call in llm.calls if "Kinds:" in call.messages[-1]["content"]]


async def test_the_ranking_prompt_says_what_is_wanted_and_what_is_not(make: Make) -> None:
    llm = ScriptedLLM(reading(), alias="tiny")
    service = await make(llm=llm)
    await ranked(service, "drama, no horror", strategy="listwise")
    asked = [
        call.messages[-1]["content"]
        for call in llm.calls
        if "Candidates:" in call.messages[-1]["content"]
    ]
    assert asked
    assert all("That means they want: Drama." in text for text in asked)
    assert all("They do not want: Horror." in text for text in asked)
    assert not any("Alien" in text.split("Candidates:")[1] for text in asked)


def test_words_that_name_a_thing_are_known_in_every_language(tmp_path: Path) -> None:
    item = Item(id="x", title="Ein Gruselfilm", attributes={})
    assert names(item, read("no horror", CINEMA).words["Horror"])
    free = Item(id="y", title="Tea", text="It is caffeine-free, and without sugar.")
    assert not names(free, ("caffeine",))
    assert not names(free, ("sugar",))

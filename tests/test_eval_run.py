"""Truths are planted, and must be found, with a model that really reads its prompt."""

import asyncio
import json
import random
import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eval import report as reports
from eval.cases import Data
from eval.leaderboard import notes, verdict
from eval.leaks import find_leaks
from eval.protocols import Options, make
from eval.publish import markdown, write
from eval.rows import rows
from eval.run import Progress, Run
from eval.suite import Suite
from service.build import build
from service.config import HOUSE, MEANINGS, Settings
from service.errors import BadRequest, ConfigError, ModelOverloaded, ModelUnreachable, PromptError
from service.llm import Asked, Call
from tests.fake_openai import FakeOpenAI
from tests.scripted import ScriptedLLM

GENRES = ("Horror", "Romance", "War", "Comedy")
CASES = 60


def reader(call: Call) -> str:
    """Ranks by genre: first what the history holds most of, as anyone would who reads the prompt;
    unknown ones as shown."""
    if "QXJ" in (call.grammar or ""):
        return "QXJ"
    text = call.messages[-1]["content"]
    before, _, after = text.partition("Candidates:")
    lines = re.findall(r'^([A-Z])\) "(.*?)" - (\w+)', after, flags=re.MULTILINE)
    told = re.search(r"next (.+?)[,.]", before, flags=re.MULTILINE)
    weight = {
        genre: len(re.findall(rf"^h\d+\) .* - {genre}", before, flags=re.MULTILINE))
        for genre in GENRES
    }
    order = sorted(lines, key=lambda line: (told is None or line[1] != told[1], -weight[line[2]]))
    return " ".join(letter for letter, _, _ in order)


DENIED = dict.fromkeys(
    ("similar", "closest", "lexical", "collaborative", "item_item", "sequence"), 0
)
"""Weights that leave the prior no source of anybody's own taste."""


def toy(path: Path) -> Path:
    """People of one taste each, asked for one item among nine, of which two are of their taste."""
    dice = random.Random(0)
    path.mkdir(parents=True)
    items = [
        {"id": f"i{n}", "title": f"Item {n}", "attributes": {"genre": GENRES[n % 4]}}
        for n in range(80)
    ]
    cases, users = [], []
    for n in range(CASES):
        mine = [f"i{m}" for m in range(80) if m % 4 == n % 4]
        *history, answer, near, nearer = dice.sample(mine, 9)
        others = [near, nearer, *dice.sample([f"i{m}" for m in range(80) if m % 4 != n % 4], 7)]
        one = {"case_id": str(n), "user_id": f"u{n}", "history": history, "relevant": [answer]}
        cases.append({**one, "candidates": dice.sample([answer, *others], 10)})
        users.append(
            {
                "user_id": f"u{n}",
                "attributes": {"next": f"Item {answer[1:]}", "side": "left" if n % 2 else "right"},
            }
        )
    for name, rows_ in (("items", items), ("events", []), ("cases", cases), ("users", users)):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_))
    return path


GOOD = """\
---
id: {id}
version: "1"
variables: [history, candidates, person]
---
[system]
Rank.
[user]
{top}
{history}
Candidates:
{{% include "_candidates.j2" %}}
"""
LINES = (
    '{% for line in history %}\n{{ line.label }}) liked "{{ line.title }}" - {{ '
    "line.details }}\n{% endfor %}"
)


def prompts(path: Path) -> Path:
    """`good` reads the history, `twin` is the same, `blind` shows none, `leaky` prints what people
    declared."""
    (path / "generic").mkdir(parents=True)
    shared = (HOUSE / "prompts" / "generic" / "_candidates.j2").read_text()
    (path / "_candidates.j2").write_text(shared)
    parts = {
        "rank": ("", LINES),
        "twin": ("", LINES),
        "blind": ("", ""),
        "leaky": ("They are {{ person }}.", ""),
    }
    for name, (top, history) in parts.items():
        text = GOOD.format(id=f"generic/{name}", top=top, history=history)
        (path / "generic" / f"{name}.j2").write_text(text.replace("\n\n", "\n"))
    explain = (HOUSE / "prompts" / "generic" / "explain.j2").read_text()
    for part in ("_system", "_person"):
        (path / "generic" / f"{part}.j2").write_text(
            (HOUSE / "prompts" / "generic" / f"{part}.j2").read_text()
        )
    (path / "generic" / "explain.j2").write_text(explain)
    return path


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    data = Data.read(toy(tmp_path / "toy"))
    make(data, "given", tmp_path / "cases", Options(MEANINGS))
    return Suite(
        data=[tmp_path / "cases"],
        prompts=["generic/rank", "generic/twin", "generic/blind"],
        prompt_folder=prompts(tmp_path / "prompts"),
        models=["tiny"],
        settings={"": {"retrieve": DENIED}},
        baseline="listwise:tiny:generic/rank",
        probes=10,
    )


async def test_an_evaluation_casts_no_shadow_and_needs_none_to_go_on(
    suite: Suite, settings: Settings, tmp_path: Path
) -> None:
    llms = {"tiny": ScriptedLLM(reader, alias="tiny")}
    maker = partial(build, llms=llms, prompts=suite.prompt_folder or HOUSE / "prompts")
    for shadow in ({}, {"model": "tiny", "share": 1}):
        changed = settings.changed({"service": {"domain": "generic"}, "shadow": shadow})
        async with Run.open(suite, changed, tmp_path / "run", maker, limit=1) as run:
            assert {run.settings(arm).shadow.model for arm in run.arms} == {None}


async def test_workers_that_need_a_service_at_once_share_one(
    suite: Suite, settings: Settings, tmp_path: Path
) -> None:
    """Of two, one would never be closed."""
    llms = {"tiny": ScriptedLLM(reader, alias="tiny")}
    maker = partial(build, llms=llms, prompts=suite.prompt_folder or HOUSE / "prompts")
    changed = settings.changed({"service": {"domain": "generic"}})
    async with Run.open(suite, changed, tmp_path / "run", maker, limit=1) as run:
        asked = next(arm for arm in run.arms if arm.name.startswith("listwise"))
        services = await asyncio.gather(*(run.service(asked, "reversed") for _ in range(3)))
        assert len(set(map(id, services))) == 1


Play = Callable[..., Any]


@pytest.fixture
def play(settings: Settings, tmp_path: Path) -> Play:
    """`await play(suite)`: a whole run; returns its report. Calls of the model are in
    `play.llm.calls`."""
    llm = ScriptedLLM(reader, alias="tiny")
    plain = settings.changed(
        {"service": {"domain": "generic"}, "models": {"tiny": {"weight": 0.9}}}
    )

    async def one(
        suite: Suite,
        *,
        out: str = "run",
        answer: ScriptedLLM = llm,
        by: tuple[str, ...] = (),
        **more: Any,
    ) -> Any:
        maker = partial(
            build, llms={"tiny": answer}, prompts=suite.prompt_folder or HOUSE / "prompts"
        )
        async with Run.open(suite, plain, tmp_path / out, maker, **more) as run:
            await run.go()
            await find_leaks(run)
            return reports.report(tmp_path / out, by)

    one.llm = llm  # type: ignore[attr-defined]  # a test wants to count calls
    return one


def arm(name: str) -> str:
    return f"listwise:tiny:generic/{name}"


async def test_a_suite_says_whose_prompts_and_meanings_its_data_take(
    settings: Settings, suite: Suite, tmp_path: Path
) -> None:
    groceries = Suite(data=suite.data, strategies=["prior"], domain="shop")
    for given, domain in (
        (groceries, "shop"),
        (groceries.model_copy(update={"domain": None}), settings.service.domain),
    ):
        run = Run(given, settings, tmp_path / "run", build, None)
        assert (
            {run.settings(one).service.domain for one in run.arms}
            == {run.manifest()["domain"]}
            == {domain}
        )


async def test_a_prompt_without_history_is_worse_and_a_twin_is_no_different(
    suite: Suite, play: Play
) -> None:
    found = await play(suite, by=("side",))
    blind, twin = found.line(arm("blind")), found.line(arm("twin"))
    assert (twin.versus.difference, twin.versus.p, twin.versus.clear) == (0, 1, False)
    assert "no difference" in verdict(found, twin)
    assert blind.versus.high < 0
    assert blind.holm < 0.05
    assert "worse" in verdict(found, blind)
    assert [line.flags for line in (twin, blind, found.line("prior"))] == [[], [], []]
    order = [found.line(name).values["nDCG@10"] for name in ("oracle", arm("rank"), "shuffled")]
    assert order == sorted(order, reverse=True)
    assert {(one.name, one.value) for one in found.slices} >= {
        ("side", "left"),
        ("side", "right"),
        ("history", "usual"),
    }


async def test_a_model_that_reads_the_history_is_sensitive_and_not_biased_by_place(
    suite: Suite, play: Play
) -> None:
    found = await play(suite)
    reads, blind = found.line(arm("rank")).rates, found.line(arm("blind")).rates
    assert reads["sensitivity"] > 0.5  # a neighbour may be of the same taste
    assert blind["sensitivity"] == 0
    assert blind["position_bias"] == pytest.approx(1)
    assert blind["order_stability"] == pytest.approx(-1)
    assert reads["position_bias"] < 1
    assert reads["valid_rate"] == 1
    assert reads["repair_rate"] == reads["degraded_rate"] == 0


async def test_a_prompt_that_leaks_the_answer_is_flagged(suite: Suite, play: Play) -> None:
    leaky = suite.model_copy(update={"prompts": ["generic/rank", "generic/leaky"], "probes": 0})
    found = await play(leaky)
    assert found.line(arm("rank")).flags == []
    flags = found.line(arm("leaky")).flags
    assert any("names 50 of 50 answers" in flag for flag in flags)
    assert any("oracle" in flag for flag in flags)
    assert "flag: " in markdown(found)


async def test_a_broken_prompt_fails_before_a_token_is_spent(
    suite: Suite, play: Play, tmp_path: Path
) -> None:
    (tmp_path / "prompts" / "generic" / "twin.j2").write_text(
        "---\nid: generic/twin\n---\n{% for %}"
    )
    with pytest.raises(PromptError, match=r"twin\.j2"):
        await play(suite)
    assert play.llm.calls == []  # type: ignore[attr-defined]


async def test_a_killed_run_goes_on_and_asks_nothing_twice(
    suite: Suite, play: Play, tmp_path: Path
) -> None:
    whole = await play(suite, out="whole", limit=20)
    asked = len(play.llm.calls)  # type: ignore[attr-defined]
    out = tmp_path / "killed"
    stopped = ScriptedLLM(
        lambda call: reader(call) if len(stopped.calls) < 50 else _stop(), alias="tiny"
    )
    with pytest.raises(ExceptionGroup):
        await play(suite, out="killed", answer=stopped, limit=20)
    kept = len([*rows(out)])
    with (out / "rows.jsonl").open("a") as torn:
        torn.write('{"arm": "half a li')
    rest = ScriptedLLM(reader, alias="tiny")
    found = await play(suite, out="killed", answer=rest, limit=20)
    assert 0 < kept < len([*rows(out)]) == len([*rows(tmp_path / "whole")])
    assert (
        len(rest.calls) + 49 <= asked + 5
    )  # the probe call of each session, and the calls in flight at the kill
    keys = [row.key for row in rows(out)]
    assert len(keys) == len(set(keys))
    assert [line.values["nDCG@10"] for line in found.lines] == [
        line.values["nDCG@10"] for line in whole.lines
    ]


def _stop() -> str:
    raise RuntimeError("killed")


async def test_the_same_seed_gives_the_same_numbers(suite: Suite, play: Play) -> None:
    one, two = [await play(suite, out=out, limit=20) for out in ("one", "two")]
    assert [(line.arm, line.values, line.interval, line.versus) for line in one.lines] == [
        (line.arm, line.values, line.interval, line.versus) for line in two.lines
    ]


async def test_another_suite_may_not_write_into_a_runs_folder(suite: Suite, play: Play) -> None:
    await play(suite, limit=3)
    with pytest.raises(BadRequest, match="another suite"):
        await play(suite.model_copy(update={"seed": 1}), limit=3)


async def test_an_engine_that_is_not_up_is_found_out_before_the_first_case(
    suite: Suite, play: Play
) -> None:
    dead = ScriptedLLM(lambda call: ModelUnreachable("refused"), alias="tiny")
    with pytest.raises(BadRequest, match="whyrank engine"):
        await play(suite, answer=dead)


async def test_what_was_degraded_counts_as_what_was_served(suite: Suite, play: Play) -> None:
    def tired(call: Call) -> str | ModelOverloaded:
        ranks = "Candidates:" in call.messages[-1]["content"]
        return ModelOverloaded("busy") if ranks and len(llm.calls) % 2 else reader(call)

    llm = ScriptedLLM(tired, alias="tiny")
    found = await play(suite.model_copy(update={"probes": 0}), answer=llm)
    rates = found.line(arm("rank")).rates
    assert 0.2 < rates["degraded_rate"] < 0.9
    assert rates["valid_rate"] == 1
    assert found.line(arm("rank")).cases == CASES


async def test_a_person_who_knows_most_of_a_small_catalogue_is_checked_for_leaks_too(
    play: Play, tmp_path: Path
) -> None:
    toy(tmp_path / "small")
    file = tmp_path / "small" / "cases.jsonl"
    cases = [json.loads(line) for line in file.read_text().splitlines()]
    for case in cases:
        case["history"] = [f"i{n}" for n in range(80) if f"i{n}" not in case["candidates"]]
    file.write_text("".join(json.dumps(case) + "\n" for case in cases))
    make(Data.read(tmp_path / "small"), "given", tmp_path / "known", Options(MEANINGS))
    found = await play(
        Suite(
            data=[tmp_path / "known"], prompt_folder=HOUSE / "prompts", models=["tiny"], probes=0
        ),
        limit=2,
    )
    assert [line.cases for line in found.lines] == [2] * len(found.lines)


async def test_a_probe_without_an_answer_is_no_changed_list(
    suite: Suite, play: Play, tmp_path: Path
) -> None:
    await play(
        suite.model_copy(update={"prompts": ["generic/blind"], "baseline": "prior", "probes": 3}),
        limit=3,
    )
    file = tmp_path / "run" / "rows.jsonl"
    found = [json.loads(line) for line in file.read_text().splitlines()]
    lost = next(row for row in found if row["probe"] == "other")
    lost["order"] = []
    file.write_text("".join(json.dumps(row) + "\n" for row in found))
    assert reports.report(tmp_path / "run").line(arm("blind")).rates["sensitivity"] == 0


async def test_cases_where_one_arm_wins_are_named(suite: Suite, play: Play, tmp_path: Path) -> None:
    await play(suite)
    found = reports.compare(tmp_path / "run", arm("rank"), arm("blind"), "mrr@10")
    assert found.versus.difference > 0
    assert all(a > b for _, a, b in found.better)
    with pytest.raises(BadRequest, match="arms:"):
        reports.compare(tmp_path / "run", "nobody", arm("blind"))
    with pytest.raises(BadRequest, match="not measured"):
        reports.compare(tmp_path / "run", arm("rank"), arm("blind"), "mrr@7")


async def test_the_files_say_what_the_terminal_says(
    suite: Suite, play: Play, tmp_path: Path
) -> None:
    found = await play(suite)
    files = {file.name: file.read_text() for file in write(found, tmp_path / "run")}
    assert set(files) == {
        "report.json",
        "leaderboard.csv",
        "slices.csv",
        "report.md",
        "report.html",
    }
    for name in ("leaderboard.csv", "report.md", "report.html"):
        assert all(line.arm in files[name] for line in found.lines), name
    assert json.loads(files["report.json"])["headline"] == "nDCG@10"
    assert "http" not in files["report.html"].replace("http://127.0.0.1", "")


async def test_settings_and_data_of_several_names_are_each_compared_with_their_own(
    suite: Suite, play: Play, tmp_path: Path
) -> None:
    toy(tmp_path / "toy2")
    make(Data.read(tmp_path / "toy2"), "given", tmp_path / "more", Options(MEANINGS, seed=1))
    blind = {"retrieve": DENIED}
    many = suite.model_copy(
        update={
            "data": [tmp_path / "cases", tmp_path / "more"],
            "prompts": ["generic/rank"],
            "settings": {"wide": blind, "narrow": {**blind, "rank": {"window": 5}}},
            "baseline": "prior",
            "probes": 2,
        }
    )
    found = await play(many, limit=12)
    assert found.line(f"{arm('rank')} narrow more").baseline == "prior narrow more"
    assert found.line("shuffled narrow cases").cases == 12
    assert (
        found.line("oracle wide cases").values["nDCG@10"]
        == 1
        >= found.line("oracle narrow cases").values["nDCG@10"]
    )
    assert found.missing == 0


async def test_cases_made_anew_are_not_scored_with_old_rows(
    suite: Suite, play: Play, tmp_path: Path
) -> None:
    await play(suite, limit=3)
    make(Data.read(tmp_path / "toy"), "given", tmp_path / "cases", Options(MEANINGS, seed=9))
    with pytest.raises(BadRequest, match="not what it was"):
        reports.report(tmp_path / "run")


async def test_a_run_that_stopped_short_says_so(suite: Suite, play: Play, tmp_path: Path) -> None:
    await play(suite, limit=5)
    file = tmp_path / "run" / "rows.jsonl"
    file.write_text("\n".join(file.read_text().splitlines()[:-7]) + "\n")
    found = reports.report(tmp_path / "run")
    assert found.missing == 7
    assert "unfinished: 7" in markdown(found)


async def test_a_model_that_goes_away_stops_the_run_and_keeps_what_is_done(
    suite: Suite, play: Play, tmp_path: Path
) -> None:
    weak = ScriptedLLM(
        lambda call: reader(call) if len(weak.calls) < 20 else ModelUnreachable("gone"),
        alias="tiny",
    )
    with pytest.raises(BadRequest, match="went away"):
        await play(suite, answer=weak)
    assert not any(row.degraded for row in rows(tmp_path / "run"))
    found = await play(suite)
    assert found.missing == 0


LIKELY = {"models": {"titles": {"backend": "local", "model": "titles"}}}


def likely(asked: Asked) -> float:
    return -float(len(asked.text))


async def test_an_arm_of_likelihoods_is_checked_by_the_prompt_that_it_has(
    suite: Suite, settings: Settings, tmp_path: Path
) -> None:
    """Such a model is shown no rank prompt; a score prompt that can't be used is named before
    anything is asked."""
    scorers = {"titles": ScriptedLLM(reader, alias="titles", likely=likely)}
    changed = settings.changed({"service": {"domain": "generic"}, **LIKELY})
    arms = suite.model_copy(
        update={"prompts": [], "strategies": ["likelihood:titles"], "baseline": "prior"}
    )
    folder = suite.prompt_folder or HOUSE
    score = (HOUSE / "prompts" / "generic" / "score.j2").read_text()
    for name, text in (("run", score), ("broken", score.replace("{{ title }}", "{{ title / 2 }}"))):
        (folder / "generic" / "score.j2").write_text(text)
        llms = {"tiny": ScriptedLLM(reader, alias="tiny")}
        maker = partial(build, llms=llms, scorers=scorers, prompts=folder)
        with (
            pytest.raises(PromptError, match="generic/score") if name == "broken" else nullcontext()
        ):
            async with Run.open(arms, changed, tmp_path / name, maker, limit=3) as run:
                await run.go()
    found = reports.report(tmp_path / "run")
    assert (
        found.line("likelihood:titles").cases,
        found.line("likelihood:titles").rates["degraded_rate"],
    ) == (3, 0)


async def test_an_arm_below_a_source_of_its_own_prior_is_flagged(
    suite: Suite, play: Play, tmp_path: Path
) -> None:
    """Popularity knows nothing of anybody's taste here, and is given all of the weight but a
    trace."""
    weights = {**DENIED, "similar": 0.001, "popular": 1}
    found = await play(
        suite.model_copy(
            update={
                "strategies": ["prior"],
                "sources": True,
                "baseline": "prior",
                "settings": {"": {"retrieve": weights}},
            }
        )
    )
    prior = found.line("prior")
    assert prior.sources["similar"].difference == -found.line("similar").versus.difference
    assert prior.sources["popular"].high >= 0
    assert any(flag.startswith("below similar, a source of its prior: -") for flag in prior.flags)
    assert found.line("similar").sources == {}
    page = markdown(found)
    assert f"Asked: {CASES} of {CASES} cases of cases." in page
    assert re.search(r"^\| prior \| -\d.*\(-.*…-.*\) \| ", page, flags=re.MULTILINE)
    short = await play(
        suite.model_copy(update={"strategies": ["prior"], "baseline": "prior"}),
        out="short",
        limit=4,
    )
    assert f"Asked: 4 of {CASES} cases of cases." in markdown(short)


async def test_a_flag_outlives_the_run(suite: Suite, play: Play, tmp_path: Path) -> None:
    await play(suite.model_copy(update={"prompts": ["generic/rank", "generic/leaky"], "probes": 0}))
    assert "names 50 of 50 answers" in markdown(reports.report(tmp_path / "run"))


async def test_weights_fitted_on_the_same_people_are_told(
    suite: Suite, play: Play, settings: Settings
) -> None:
    folder = settings.data / "weights"
    folder.mkdir(parents=True)
    weights = {"similar": 0, "context": 0, "query": 0, "popular": 1, "model": 0.5}
    found = {"data": {"sha": Data.read(suite.data[0]).sha}}
    (folder / "generic.tiny.yaml").write_text(json.dumps({"weights": weights, "found": found}))
    told = notes(await play(suite.model_copy(update={"probes": 0}), limit=3))
    assert any("fitted on half of these people" in note for note in told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("data: [x]\nprompt: [a]", "prompt"),
        ("data: []", "data"),
        ("data: [x]\nmetrics: [accuracy]", "nDCG"),
        ("data: [x]\nsettings: {a: {store: {}}}", "store"),
        ("data: [x]\nrepeats: 0", "repeats"),
        ("data: [x/a, y/a]", "no two may share"),
        ("data: [x]\nmetrics: []", "metrics"),
        ("data: [x]\nmetrics: [novelty@10]", "relevance"),
        ("data: [x]\nsettings: {a: {retrieve: }}", "keys and values"),
        ("- x", "dictionary"),
        ("data: [", "YAML"),
    ],
)
def test_a_bad_suite_is_told_by_file_and_key(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(BadRequest, match=told):
        Suite.read(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"baseline": "best"}, "no arm"),
        ({"prompts": ["generic/ghost"]}, "generic/ghost"),
        ({"models": ["ghost"]}, "ghost"),
        ({"settings": {"": {"locale": "zh_CN"}}}, "locale"),
        ({"strategies": ["magic"]}, "magic"),
        ({"settings": {"": {"rank": {"window": 99}}}}, "window"),
    ],
)
async def test_what_a_suite_names_must_exist(
    suite: Suite, play: Play, change: dict[str, Any], told: str
) -> None:
    with pytest.raises((BadRequest, ConfigError), match=told):
        await play(suite.model_copy(update={"baseline": "prior", **change}))
    assert play.llm.calls == []  # type: ignore[attr-defined]


async def test_strategies_have_their_own_models_and_numbers_of_cases(
    suite: Suite, play: Play
) -> None:
    asked = suite.model_copy(
        update={
            "prompts": [],
            "strategies": ["listwise:tiny"],
            "cases": {"listwise": 20},
            "priors": {"other": {"retrieve": {"similar": 1}}},
            "baseline": "prior",
            "beside": "prior other",
            "probes": 0,
        }
    )
    found = await play(asked)
    assert found.line("listwise:tiny").cases == 20
    assert found.line("prior").cases == found.line("prior other").cases == CASES
    also = found.line("listwise:tiny").also
    assert also is not None
    assert also.cases == 20
    alone = found.line("alone:listwise:tiny")  # the model reads the history, the prior is by id
    assert alone.values["nDCG@10"] >= found.line("prior").values["nDCG@10"]
    assert "− prior other" in markdown(found)


PRICE = {"input": 1, "output": 10}
Buy = Callable[..., Any]


@pytest.fixture
def buy(settings: Settings, tmp_path: Path) -> Buy:
    """`await buy(suite, out, spend)`: a run whose model has a price; returns its progress and the
    model."""
    priced = settings.changed(
        {"service": {"domain": "generic"}, "models": {"tiny": {"weight": 0.9, "price": PRICE}}}
    )

    async def one(
        suite: Suite, out: str, spend: float | None = None, **more: Any
    ) -> tuple[Progress, ScriptedLLM]:
        llm = ScriptedLLM(reader, alias="tiny")
        maker = partial(build, llms={"tiny": llm}, prompts=suite.prompt_folder or HOUSE / "prompts")
        async with Run.open(suite, priced, tmp_path / out, maker) as run:
            return await run.go(spend=spend, **more), llm

    return one


def paid(out: Path) -> list[float]:
    return [row.cost or 0 for row in rows(out) if row.arm.startswith("listwise")]


async def test_no_question_is_begun_once_the_money_is_spent_and_a_higher_cap_goes_on(
    suite: Suite, buy: Buy, tmp_path: Path
) -> None:
    plain = suite.model_copy(update={"prompts": ["generic/rank"], "probes": 0})
    whole, _ = await buy(plain, "whole")
    costs = paid(tmp_path / "whole")
    assert (len(costs), whole.unpaid, whole.cost) == (CASES, 0, pytest.approx(sum(costs)))
    done, _ = await buy(plain, "capped", 10.5 * max(costs), concurrency=1)
    found = paid(tmp_path / "capped")
    assert sum(found[:-1]) < 10.5 * max(costs) <= sum(found)
    assert done.unpaid == CASES - len(found)
    assert (
        len([row for row in rows(tmp_path / "capped") if row.model is None]) == 2 * CASES
    )  # prior and popular are free
    again, llm = await buy(plain, "capped", 10.5 * max(costs))
    assert (again.done, again.cost, llm.calls) == (
        done.done,
        pytest.approx(done.cost),
        [],
    )  # nor is the model woken
    more, _ = await buy(plain, "capped", 20.5 * max(costs), concurrency=1)
    assert sum(paid(tmp_path / "capped")[:-1]) < 20.5 * max(costs) <= more.cost
    await buy(plain, "capped")
    lines = [
        [line.values for line in reports.report(tmp_path / out).lines]
        for out in ("whole", "capped")
    ]
    assert lines[0] == lines[1]


async def test_what_is_under_way_when_the_money_ends_goes_on(
    suite: Suite, buy: Buy, tmp_path: Path
) -> None:
    plain = suite.model_copy(update={"prompts": ["generic/rank"], "probes": 0})
    await buy(plain, "capped", 1e-9, concurrency=8)
    assert 1 <= len(paid(tmp_path / "capped")) <= 8


async def test_a_case_that_fails_after_it_was_paid_counts(
    suite: Suite, buy: Buy, tmp_path: Path
) -> None:
    assert suite.prompt_folder is not None
    (suite.prompt_folder / "generic" / "explain.j2").unlink()
    done, _ = await buy(
        suite.model_copy(update={"prompts": ["generic/rank"], "probes": 0, "explain": "short"}),
        "failed",
    )
    failed = [row for row in rows(tmp_path / "failed") if row.arm.startswith("listwise")]
    assert all(
        row.error.startswith("prompt_not_found: no prompt 'generic/explain'") for row in failed
    )
    assert all((row.cost or 0) > 0 and sum(row.tokens) > 0 for row in failed)
    assert done.cost == pytest.approx(sum(row.cost or 0 for row in failed))


async def test_a_model_without_log_probabilities_is_asked_in_the_ways_it_can(
    suite: Suite, settings: Settings, serve: Callable[[Any], Any], tmp_path: Path
) -> None:
    fake = FakeOpenAI("refuses")
    hosted = {
        "backend": "vllm",
        "model": "fake",
        "base_url": f"{await serve(fake.app)}/v1",
        "price": PRICE,
    }
    both = settings.changed({"models": {"here": hosted, "there": {**hosted, "hosted": True}}})
    axis = Suite(data=suite.data, models=["here", "there"], strategies=["keyed"], probes=1)
    async with Run.open(axis, both, tmp_path / "keyed", build, 3) as run:
        done = await run.go(concurrency=1)
    found = [row for row in rows(tmp_path / "keyed") if row.model is not None]
    assert {(row.arm, row.model) for row in found} == {
        ("keyed:here", "here"),
        ("keyed:there", "there"),
    }
    assert [row.degraded for row in found if row.degraded] == []
    assert done.cost == pytest.approx(len(found) * (400 + 10 * 10) / 1e6)
    wrong = axis.model_copy(update={"strategies": ["first_token"]})
    async with Run.open(wrong, both, tmp_path / "first", build, 3) as run:
        with pytest.raises(
            BadRequest,
            match=(
                "here can't do what strategy first_token needs; strategies for it: listwise, keyed"
            ),
        ):
            await run.go()

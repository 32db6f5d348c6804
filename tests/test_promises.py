"""What is promised runs: the tables below name every make target, every `whyrank` command and every
shell or Python snippet of README.md and docs/, and where it is run. A new one that nobody runs
fails here, and so does one that is false.

Small: an invented catalogue that holds the ids of the documents, two cases of each evaluation,
`tiny` in this process, and a stand-in for vLLM that really is started and stopped. `make verify`
runs the targets on the real data and the real engine.
"""

import importlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer.main
from typer.core import TyperGroup
from typer.testing import CliRunner

from service.cli import app
from service.config import HOUSE
from tests.conftest import MODELS
from tests.snippets import PAGES, RUNNABLE, Snippet, run_python, snippets

MAKE, BASH = shutil.which("make") or "make", shutil.which("bash") or "bash"

# ── the tables ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Here:
    """Run by this file. `words`: what to add to the command; `environment`: what is set for it,
    `{name}` being a port or a folder of the clone."""

    words: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


HERE = Here()
TEST, ITSELF = "make test", "itself"
VERIFY = "tests/verify.py::test_make_targets_on_the_real_thing"
CLIENTS = "tests/test_clients.py::test_the_client_works_unchanged"
MORE_CLIENTS = "tests/verify.py::test_every_client_works_unchanged"
CURL = "tests/test_clients.py::test_what_the_page_gives_to_curl_is_answered"
UP = "tests/test_promises.py::clone"
OTHER_ENGINE = {
    f"WHYRANK_MODELS__{alias}__BASE_URL": "http://127.0.0.1:{other}/v1"
    for alias in ("SMALL", "TINY", "SMALL-LOCAL", "TINY-LOCAL")
} | {f"WHYRANK_MODELS__{alias}-LOCAL__BACKEND": "vllm" for alias in ("SMALL", "TINY")}
"""Where commands start an engine: at the usual port there is one already. It has likelihoods at
once; other commands load `tiny` often enough."""
OTHER_STORE = Here(environment={"WHYRANK_DATA": "{folder}/keys"})
"""From its first key on a service asks everybody for one."""

TARGETS: dict[str, Here | str] = {
    "help": HERE,
    "setup": TEST,
    "lint": TEST,
    "pulled-tiny": TEST,
    "test": ITSELF,
    "demo": Here("MODEL=tiny", OTHER_ENGINE),
    "up": UP,
    "bench": VERIFY,
    "bench-rank": Here("LIMIT=2", OTHER_ENGINE),
    "bench-domains": Here("LIMIT=2"),
    "bench-groceries": "make bench-domains",
    "bench-books": "make bench-domains",
    "bench-history": Here("LIMIT=2 EVENTS=1"),
    "bench-scale": VERIFY,
    "verify": ITSELF,
    "clients": "make verify",
    "clients-cohere": TEST,
    "clients-openai3": "make verify",
    "clients-litellm": "make verify",
    "clients-langchain": "make verify",
    "clients-llama-index": "make verify",
    "lock": VERIFY,
    "clean": "tests/test_promises.py::test_what_is_made_can_be_cleaned_away",
}
"""How each is run: here, as what another target needs, or by a test of another file."""

COMMANDS: dict[str, Here | str] = {
    "models list": HERE,
    "models pull": "make bench-books",
    "models probe": "README.md § Send an event, get another answer, sh 2",
    "prompts list": HERE,
    "prompts preview": Here("127 --task score"),
    "keys create": "README.md § Keys, sh 1",
    "keys list": "README.md § Keys, sh 1",
    "keys revoke": "README.md § Keys, sh 1",
    "data": "make bench-books",
    "ingest": "docs/feeds.md § From files, sh 1",
    "engine": "README.md § Which prompt, model and strategy ranks best on my data?, sh 1",
    "serve": "tests/test_house.py::test_the_image_serves_from_what_its_dockerfile_installs",
    "up": UP,
    "recommend": "README.md § Send an event, get another answer, sh 2",
    "doctor": "README.md § Send an event, get another answer, sh 2",
    "demo": "make demo",
    "compare": "README.md § Compare models, sh 1",
    "fit": "README.md § Which prompt, model and strategy ranks best on my data?, sh 1",
    "eval cases": "README.md § Which prompt, model and strategy ranks best on my data?, sh 1",
    "eval run": "README.md § Which prompt, model and strategy ranks best on my data?, sh 1",
    "eval report": "README.md § Which prompt, model and strategy ranks best on my data?, sh 1",
    "eval show": "README.md § Which prompt, model and strategy ranks best on my data?, sh 1",
    "eval compare": "README.md § Which prompt, model and strategy ranks best on my data?, sh 1",
    "eval curve": "make bench-history",
    "eval reasons": (
        "tests/test_eval_reasons.py::test_the_command_prints_a_table_and_writes_a_page"
    ),
    "eval wishes": "docs/wishes.md § Is it what was asked for?, sh 1",
    "eval relevance": "tests/test_eval_wishes.py::test_the_command_writes_a_page",
    "eval production": "docs/shadow.md § Was it better?, sh 1",
}

FIRST_RUN = (
    "tests/test_samples.py::test_the_four_commands_of_the_readme_end_in_the_list_that_it_shows"
)
MAPPED = "tests/test_samples.py::test_columns_of_other_names_are_taken_as_the_readme_maps_them"

SNIPPETS: dict[str, Here | str] = {
    "README.md § Your own shop in four commands, sh 1": FIRST_RUN,
    "README.md § Your own shop in four commands, sh 2": MAPPED,
    "README.md § Two commands, sh 1": "make",
    "README.md § Send an event, get another answer, sh 1": HERE,
    "README.md § Send an event, get another answer, sh 2": HERE,
    "README.md § Show the list before its reasons are written, sh 1": HERE,
    "README.md § Show the list before its reasons are written, python 1": HERE,
    "README.md § Rerank what you have found, sh 1": HERE,
    "README.md § Talk about it, python 1": HERE,
    "README.md § Compare models, sh 1": HERE,
    "README.md § Which prompt, model and strategy ranks best on my data?, sh 1": Here(
        environment=OTHER_ENGINE
    ),
    "README.md § Keys, sh 1": OTHER_STORE,
    "docs/clients.md § Cohere, python 1": CLIENTS,
    "docs/clients.md § Cohere, python 2": CLIENTS,
    "docs/clients.md § OpenAI, python 1": CLIENTS,
    "docs/clients.md § OpenAI, python 2": CLIENTS,
    "docs/clients.md § OpenAI, python 3": CLIENTS,
    "docs/clients.md § LiteLLM, python 1": MORE_CLIENTS,
    "docs/clients.md § LiteLLM, python 2": MORE_CLIENTS,
    "docs/clients.md § LangChain, python 1": MORE_CLIENTS,
    "docs/clients.md § LangChain, python 2": MORE_CLIENTS,
    "docs/clients.md § LlamaIndex, python 1": MORE_CLIENTS,
    "docs/clients.md § LlamaIndex, python 2": MORE_CLIENTS,
    "docs/clients.md § Open WebUI, sh 1": "tests/test_clients.py::test_open_webui_is_answered",
    "docs/clients.md § curl, sh 1": CURL,
    "docs/clients.md § curl, sh 2": CURL,
    "docs/clients.md § curl, sh 3": CURL,
    "docs/feeds.md § Feeds, sh 1": HERE,
    "docs/feeds.md § Ids, sh 1": HERE,
    "docs/feeds.md § All of it, page by page, sh 1": HERE,
    "docs/feeds.md § All of one user, sh 1": HERE,
    "docs/feeds.md § From Gorse, sh 1": HERE,
    "docs/feeds.md § From Metarank, sh 1": HERE,
    "docs/feeds.md § From Amazon Personalize, sh 1": HERE,
    "docs/feeds.md § From files, sh 1": HERE,
    "docs/feeds.md § From files, sh 2": HERE,
    "docs/privacy.md § See it, sh 1": HERE,
    "docs/wishes.md § Wishes: what is asked for is what comes, sh 1": HERE,
    "docs/wishes.md § Is it what was asked for?, sh 1": HERE,
    "docs/shadow.md § Was it better?, sh 1": Here(environment={"WHYRANK_DATA": "{folder}/served"}),
}
"""By name, as a failure tells it. `make`: its lines are targets, whose table says where they are
run."""

PLACEHOLDERS = {"DATA": ".whyrank/movielens-100k", "USER": "127", "ALIAS": "small"}
"""Words that stand for a reader's own, and CASE, for one of the cases that were run."""
FEW = {
    "eval run": ("--limit", "2"),
    "compare --suite": ("--limit", "2"),
    "eval curve": ("--people", "2", "--events", "1"),
}
"""What is added to commands that hold these words."""


# ── is everything run by somebody? ────────────────────────────────────────────────────────────────


def runnable() -> dict[str, Snippet]:
    found = [
        one for page in PAGES for one in snippets(page) if one.language in set(RUNNABLE.values())
    ]
    return {str(one): one for one in found}


def targets() -> list[str]:
    return " ".join(re.findall(r"^\.PHONY: (.*)$", database(), flags=re.MULTILINE)).split()


@cache
def database() -> str:
    """What make itself read in the Makefile."""
    return subprocess.run(
        [MAKE, "-pn", "help"], cwd=HOUSE, capture_output=True, text=True, check=True
    ).stdout


def commands() -> list[str]:
    """Leaves of the tree of commands, as they are typed."""

    def under(command: object, words: tuple[str, ...]) -> Iterator[str]:
        if isinstance(command, TyperGroup):
            for name, child in command.commands.items():
                yield from under(child, (*words, name))
        else:
            yield " ".join(words)

    return list(under(typer.main.get_command(app), ()))


TABLES = {
    "TARGETS": (TARGETS, targets),
    "COMMANDS": (COMMANDS, commands),
    "SNIPPETS": (SNIPPETS, lambda: list(runnable())),
}


@pytest.mark.parametrize("name", TABLES)
def test_whatever_is_promised_has_somebody_who_runs_it(name: str) -> None:
    table, promised = TABLES[name][0], TABLES[name][1]()
    nobody = [
        f"{one}: run by nobody; say in {name} of {__name__} where it is run"
        for one in promised
        if one not in table
    ]
    gone = [
        f"{one}: stands in {name} of {__name__} and is promised no more"
        for one in table
        if one not in promised
    ]
    assert not nobody + gone, "\n".join(nobody + gone)


@pytest.mark.parametrize("name", TABLES)
def test_whoever_is_said_to_run_it_is_there_and_names_it(name: str) -> None:
    table = TABLES[name][0]
    wrong = [
        f"{one}: not run by {where}"
        for one, where in table.items()
        if isinstance(where, str) and not runs(where, one, name)
    ]
    assert not wrong, "\n".join(wrong)


def runs(where: str, what: str, table: str) -> bool:
    """Does that test exist, that snippet or recipe hold the command, that target need the other
    one?"""
    if where in {ITSELF, "make"}:
        return True
    if "::" in where:
        file, test = where.split("::")
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        return hasattr(module, test) and (
            where != VERIFY or what in {line.split()[0] for line in module.MADE}
        )
    if " § " in where:
        return re.search(rf"\bwhyrank {what}\b", runnable()[where].code) is not None
    target = where.removeprefix("make ")
    return (
        what in needed(target) if table == "TARGETS" else f"whyrank {what}" in recipe(HOUSE, target)
    )


def needed(target: str) -> set[str]:
    """What a target needs, directly or not."""
    found = re.findall(rf"^{re.escape(target)}:(?! \w+ :?=) *(.*)$", database(), flags=re.MULTILINE)
    near = {one for line in found for one in line.replace("|", " ").split()} - {target}
    return near.union(*(needed(one) for one in near if one in TARGETS))


def recipe(folder: Path, *words: str) -> str:
    """The lines of a target's recipe, as make would give them to the shell."""
    outer = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    }
    return subprocess.run(
        [MAKE, "-n", *words], cwd=folder, env=outer, capture_output=True, text=True, check=True
    ).stdout


# ── a clone with a small catalogue ────────────────────────────────────────────────────────────────

TITLES = {
    "1": ("Toy Story", ["Animation", "Comedy"]),
    "50": ("Star Wars", ["Action", "Sci-Fi"]),
    "172": ("The Empire Strikes Back", ["Action", "Sci-Fi"]),
    "181": ("Return of the Jedi", ["Action", "Sci-Fi"]),
    "183": ("Alien", ["Horror", "Sci-Fi"]),
}
"""Items that the documents name by their ids."""
GENRES = ("Action", "Comedy", "Drama", "Horror", "Romance", "Sci-Fi")
NAMED = ("127", "366", "904")
PEOPLE = [*NAMED, *(f"{n}" for n in range(1, 58))]
DAY_MS = 86_400_000
STAND_IN = '''\
"""Stands where vLLM's server does: its command line, its /health, and words that obey a grammar."""
import argparse, sys
sys.path.insert(0, {house!r})
import uvicorn
from tests.fake_openai import FakeOpenAI
parser = argparse.ArgumentParser()
parser.add_argument("--host")
parser.add_argument("--port", type=int)
at, _ = parser.parse_known_args()
app = FakeOpenAI("obeys").app
app.get("/health")(lambda: {{}})
uvicorn.run(app, host=at.host, port=at.port, log_level="error")
'''


def catalogue() -> dict[str, list[dict[str, Any]]]:
    """Invented feeds: 60 films, and 60 people who like most of two genres and rate twelve films,
    day after day; those whom the documents name three, as finding out what moved a ranking takes
    its time for each."""
    dice = random.Random(0)
    named = [
        {"id": one, "title": title, "attributes": {"year": 1980, "genre": genre}}
        for one, (title, genre) in TITLES.items()
    ]
    others: list[dict[str, Any]] = [
        {
            "id": f"{n}",
            "title": f"Story {n}",
            "attributes": {"year": 1950 + n % 50, "genre": [GENRES[n % 6]]},
        }
        for n in range(300, 355)
    ]
    items = [*named, *others]
    events = []
    for place, who in enumerate(PEOPLE):
        mine = {GENRES[place % 6], GENRES[(place + 1) % 6]}
        for day, item in enumerate(dice.sample(items, 3 if who in NAMED else 12)):
            liked = mine & set(item["attributes"]["genre"]) or dice.random() < 0.5
            at = 1_700_000_000_000 + (place + 20 * day) * DAY_MS // 20
            event = {
                "user_id": who,
                "item_id": item["id"],
                "type": "rating",
                "value": 5 if liked else 2,
            }
            events.append({**event, "occurred_at": at})
    users = [
        {"user_id": who, "attributes": {"gender": "MF"[n % 2]}} for n, who in enumerate(PEOPLE)
    ]
    return {"items": items, "users": users, "events": events}


def write_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_files(folder: Path) -> None:
    """What the snippets read."""
    (folder / "films.csv").write_text(
        "id,title,year,genre\n901,Solaris,1972,Drama|Sci-Fi\n902,Heat,1995,Action\n"
    )
    write_lines(
        folder / "log.jsonl", [{"user_id": "127", "item_id": "901", "type": "rating", "value": 4}]
    )
    click_ = {
        "event": "interaction",
        "id": "c",
        "timestamp": "1706702400000",
        "user": "127",
        "type": "click",
        "item": "50",
    }
    shown = {**click_, "event": "ranking", "id": "r", "items": [{"id": "50"}, {"id": "181"}]}
    for name in ("mr", "metarank"):
        write_lines(
            folder / f"{name}.jsonl", [shown, click_, {"event": "user", "id": "u", "user": "127"}]
        )
    feedback = {
        "FeedbackType": "like",
        "UserId": "127",
        "ItemId": "50",
        "Timestamp": "2026-01-31T12:00:00Z",
    }
    write_lines(folder / "feedback.jsonl", [feedback])
    put = {"itemId": "903", "properties": json.dumps({"title": "Fargo", "genres": "Crime|Drama"})}
    write_lines(folder / "put.jsonl", [{"datasetArn": "arn", "items": [put]}])
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n127,901,4.0,1260759144\n")
    (folder / "stars.csv").write_text("uid,film,stars,ts,note\n127,901,4.5,1260759144,good\n")
    (folder / "shop.csv").write_bytes("Artikelnummer;Titel;Intern\n904;Größe;x\n".encode("latin-1"))
    mapping = next(
        one
        for one in snippets("docs/feeds.md")
        if one.language == "yaml" and "time_unit" in one.code
    )
    (folder / "stars.yaml").write_text(mapping.code)
    (folder / "users.txt").write_text("127\n366\n904\n")
    suite = next(
        one
        for one in snippets("README.md")
        if one.language == "yaml" and "prompt_folder" in one.code
    )
    (folder / "suite.yaml").write_text(suite.code.replace("probes: 20", "probes: 1"))
    shutil.copytree(HOUSE / "prompts", folder / "my-prompts")
    mine = (
        (HOUSE / "prompts" / "movies" / "rank.j2")
        .read_text()
        .replace("id: movies/rank", "id: movies/mine")
    )
    (folder / "my-prompts" / "movies" / "mine.j2").write_text(mine)


@dataclass(frozen=True)
class Clone:
    """A checkout in which everything is set up, with a catalogue, and `make up` running. `ports`:
    of the service that is served, of its engine, and of the engines that commands start."""

    folder: Path
    ports: Mapping[str, int]

    @property
    def environment(self) -> dict[str, str]:
        """By which commands find this clone's models at this clone's ports, and ask them for
        little; the configuration is the shipped one."""
        engine = f"http://127.0.0.1:{self.ports['engine']}/v1"
        fake = json.dumps({"backend": "vllm", "model": "fake", "base_url": engine, "weight": 0.5})
        stand_in = os.pathsep.join([str(self.folder / "stand-in"), str(HOUSE)])
        return {
            "WHYRANK_MODELS__SMALL__BASE_URL": engine,
            "WHYRANK_MODELS__TINY__BASE_URL": engine,
            "WHYRANK_MODELS__GPT": fake,
            "WHYRANK_MODELS__CANDIDATE": fake,
            "WHYRANK_SERVICE__PORT": str(self.ports["service"]),
            "WHYRANK_RANK__WINDOW": "5",
            "WHYRANK_RANK__DEPTH": "5",
            "WHYRANK_EXPLAIN__TOP": "2",
            "PYTHONPATH": stand_in,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "COLUMNS": "200",
        }

    @property
    def case(self) -> str:
        """The first of the cases, if there are any yet."""
        file = self.folder / "cases" / "cases.jsonl"
        return str(json.loads(file.read_text().splitlines()[0])["case_id"]) if file.exists() else ""

    def run(self, script: str, how: Here = HERE) -> None:
        """A script, as a reader would run it in this folder. Lines of `whyrank` alone run in this
        process, one after the other: starting Python for each would take most of the time."""
        given = {
            name: value.format(folder=self.folder, **self.ports)
            for name, value in how.environment.items()
        }
        lines = script.replace("\\\n", " ").splitlines()
        if all(re.match(r"\s*(#|$|([A-Z_]+=\S+ )*(\S+/)?whyrank\b)", line) for line in lines):
            for words in filter(None, (shlex.split(line, comments=True) for line in lines)):
                start = next(n for n, word in enumerate(words) if Path(word).name == "whyrank")
                own = dict(word.split("=", 1) for word in words[:start])
                self.whyrank(*words[start + 1 :], **{**given, **own})
        else:
            self.bash(
                script.replace("localhost:8080", f"127.0.0.1:{self.ports['service']}"), **given
            )

    def whyrank(self, *words: str, **given: str) -> str:
        """What it prints."""
        more = next((few for what, few in FEW.items() if what in shlex.join(words)), ())
        meant = {**PLACEHOLDERS, "CASE": self.case}
        asked = [meant.get(word, word) for word in (*words, *more)]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for name in [name for name in os.environ if name.startswith("WHYRANK_")]:
                patch.delenv(name)
            for name, value in {**self.environment, **given}.items():
                patch.setenv(name, value)
            answer = CliRunner().invoke(app, asked)
        assert answer.exit_code == 0, (
            f"whyrank {shlex.join(asked)}\n{answer.output}\n{answer.exception!r}"
        )
        return answer.output

    def bash(self, script: str, **given: str) -> str:
        """What it prints. Stops at the first command that fails, or is answered by an error."""
        strict = (
            "set -euo pipefail; curl() { command curl --no-progress-meter "
            '--fail-with-body "$@"; echo; }\n'
        )
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith("WHYRANK_")
        }
        ran = subprocess.run(
            [BASH, "-c", strict + script],
            cwd=self.folder,
            env={**clean, **self.environment, **given},
            capture_output=True,
            text=True,
            check=False,
        )
        told = ran.stdout + ran.stderr
        assert ran.returncode == 0, f"{script}\n{told}"
        assert not re.search(r'"(rejected|Rejected)":\s*\[\{', told), f"{script}\n{told}"
        return told


def checkout(folder: Path) -> None:
    """The files of a clone after `make setup`, in which models and data sets may be put."""
    for name in ("eval", "docs"):
        shutil.copytree(HOUSE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "README.md"):
        shutil.copy(HOUSE / name, folder / name)
    for name in ("service", "prompts", "configs", "requirements", "tests"):
        (folder / name).symlink_to(HOUSE / name)
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    (folder / ".stamps").mkdir()
    for stamp in ("dev", "uv"):
        (folder / ".stamps" / stamp).touch()
    (folder / ".whyrank").mkdir()


def free_ports(*names: str) -> dict[str, int]:
    sockets = [socket.socket() for _ in names]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = {name: one.getsockname()[1] for name, one in zip(names, sockets, strict=True)}
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    folder = tmp_path_factory.mktemp("clone")
    checkout(folder)
    write_files(folder)
    models = folder / ".whyrank" / "models"
    models.mkdir()
    for alias, weights in {"tiny": "tiny", "small": "tiny"}.items():
        (models / alias).symlink_to(MODELS / weights)
    for name in ("movielens-100k", "groceries", "books"):
        for feed, rows in catalogue().items():
            write_lines(folder / ".whyrank" / name / f"{feed}.jsonl", rows)
    package = folder / "stand-in" / "vllm" / "entrypoints" / "launchers" / "api_server"
    package.mkdir(parents=True)
    for part in (package, *package.parents[:3]):
        (part / "__init__.py").touch()  # a folder without one would stand behind the real vLLM
    (package / "entry.py").write_text(STAND_IN.format(house=str(HOUSE)))
    made = Clone(folder, free_ports("service", "engine", "other"))
    for feed in ("items", "users", "events"):
        made.whyrank("ingest", feed, f".whyrank/movielens-100k/{feed}.jsonl")
    made.whyrank("eval", "cases", "DATA", "--out", "cases")
    shutil.copytree(folder / ".whyrank", folder / "served", symlinks=True)
    with up(made):
        yield made


@contextmanager
def up(made: Clone) -> Iterator[None]:
    """`make up`, until Ctrl-C stops what it started. Likelihoods are the engine's, whose stand-in
    has them at once: commands load `tiny` often enough."""
    shadow = json.dumps({"model": "candidate", "share": 1})
    given = {"WHYRANK_DATA": "served", "WHYRANK_SHADOW": shadow, "WHYRANK_ROLES__SCORE": "tiny"}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WHYRANK_")}
    log = made.folder / "up.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [MAKE, "up"],
            cwd=made.folder,
            env={**clean, **made.environment, **given},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        while not answers(made.ports["service"]):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        assert answers(made.ports["engine"])
        yield
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)
    assert not answers(made.ports["service"])
    assert not answers(made.ports["engine"])


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


# ── run ───────────────────────────────────────────────────────────────────────────────────────────


def here(table: Mapping[str, Here | str]) -> list[str]:
    return [name for name, where in table.items() if isinstance(where, Here)]


@pytest.mark.parametrize("name", here(SNIPPETS))
def test_a_snippet_runs(clone: Clone, name: str) -> None:
    snippet, how = runnable()[name], SNIPPETS[name]
    assert isinstance(how, Here)
    shutil.rmtree(clone.folder / "run", ignore_errors=True)  # each page makes its own
    if snippet.page == "docs/shadow.md":
        like_what_was_shown(clone)
    if snippet.language == "python":
        run_python(
            snippet.code.replace("localhost:8080", f"127.0.0.1:{clone.ports['service']}"),
            snippet.page,
        )
    else:
        clone.run(snippet.code, how)


@pytest.mark.parametrize("name", [name for name, where in SNIPPETS.items() if where == "make"])
def test_lines_of_a_snippet_are_targets_that_are_run(name: str) -> None:
    for line in filter(
        None, (shlex.split(line, comments=True) for line in runnable()[name].code.splitlines())
    ):
        assert line[0] == "make"
        assert line[1] in TARGETS


@pytest.mark.parametrize("name", here(COMMANDS))
def test_a_command_runs(clone: Clone, name: str) -> None:
    how = COMMANDS[name]
    assert isinstance(how, Here)
    assert clone.whyrank(*name.split(), *how.words.split()).strip()


@pytest.mark.parametrize("name", here(TARGETS))
def test_a_target_runs(clone: Clone, name: str) -> None:
    how = TARGETS[name]
    assert isinstance(how, Here)
    clone.run(recipe(clone.folder, name, *how.words.split()), how)


def test_what_is_made_can_be_cleaned_away(tmp_path: Path) -> None:
    checkout(tmp_path)
    subprocess.run([MAKE, "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert [name for name in (".venv", ".stamps", ".whyrank") if (tmp_path / name).exists()] == []
    assert Path(sys.executable).exists()


def test_a_benchmark_of_a_few_cases_leaves_the_documents_alone_and_states_its_size(
    clone: Clone,
) -> None:
    for run, page in {
        "movielens": "ranking",
        "groceries-run": "groceries",
        "books-run": "books",
    }.items():
        assert (clone.folder / "docs" / f"{page}.md").read_text() == (
            HOUSE / "docs" / f"{page}.md"
        ).read_text()
        made = (clone.folder / ".whyrank" / "eval" / run / f"{page}.md").read_text()
        assert re.search(r"^Asked: 2 of \d+ cases", made, flags=re.MULTILINE)


def like_what_was_shown(clone: Clone) -> None:
    """So that the shadow has something to be judged by: somebody likes what they were shown, and it
    was ranked again."""
    with httpx.Client(base_url=f"http://127.0.0.1:{clone.ports['service']}", timeout=60) as client:
        shown = client.post(
            "/v1/recommendations", json={"user_id": "366", "top_n": 3, "explain": "none"}
        ).json()
        while 'outcome="ranked"' not in client.get("/metrics").text:
            pass  # the question itself yields
        like = {
            "user_id": "366",
            "item_id": shown["items"][0]["item_id"],
            "type": "like",
            "ranking_id": shown["ranking_id"],
        }
        assert client.post("/v1/events", json=like).status_code == 200

"""Real clients, each in its own process and environment, against a served whyrank; docs/clients.md
as its reader would run it.

Here those that are quick; `make verify` runs all of them.
"""

import asyncio
import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jinja2
import pytest
from pydantic import SecretStr

from service.api import create_app
from service.config import HOUSE, Settings
from tests.clients import PAGE, blocks
from tests.conftest import Make
from tests.scripted import ScriptedLLM
from tests.snippets import snippets
from tests.test_rerank import HISTORY, shown_first

Serve = Callable[[Any], Any]
KEY = "a key of 16 characters"
ENVIRONMENTS = HOUSE / ".venvs"
KEYS = pytest.mark.parametrize("key", [None, KEY], ids=["open", "locked"])


async def served(make: Make, settings: Settings, serve: Serve, key: str | None = None) -> str:
    """The base URL of a service that knows ann, whose key this is."""
    ids = {"json_query": True, "documents_are_ids": True}
    changed = settings.changed({"rank": {"strategy": "auto"}, "rerank": ids})
    changed = changed.model_copy(update={"api_key": SecretStr(key) if key else None})
    service = await make(changed=changed, llm=ScriptedLLM(shown_first, alias="tiny"))
    await service.ingest.events(HISTORY)

    async def ready(_: Settings) -> Any:
        return service

    return str(await serve(create_app(changed, ready)))


async def run(*command: str | Path) -> str:
    """What it prints. Nothing of this process's settings or keys reaches it."""
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    both = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, cwd=HOUSE, env=clean, stdout=both, stderr=both
    )
    out, wrong = await process.communicate()
    assert process.returncode == 0, wrong.decode()[-3_000:]
    return out.decode()


async def works(family: str, script: str, base: str, key: str | None) -> None:
    """The family's script, by its own environment's python; "" is this one's."""
    python = (
        ENVIRONMENTS / f"clients-{family}" / "bin" / "python" if family else Path(sys.executable)
    )
    assert python.exists(), f"no {python}: `make clients` (or `make clients-{family}`) makes it"
    await run(
        python, "-W", "ignore", "-m", f"tests.clients.{script}", base, *([key] if key else [])
    )


@KEYS
@pytest.mark.parametrize(("family", "script"), [("", "openai"), ("cohere", "cohere")])
async def test_the_client_works_unchanged(
    make: Make, settings: Settings, serve: Serve, family: str, script: str, key: str | None
) -> None:
    await works(family, script, await served(make, settings, serve, key), key)


@KEYS
async def test_what_the_page_gives_to_curl_is_answered(
    make: Make, settings: Settings, serve: Serve, key: str | None
) -> None:
    base = await served(make, settings, serve, key)
    given = [
        code.replace("http://localhost:8080", base).replace("KEY", key or "none")
        for code in blocks("curl", "sh")
    ]
    ranked, listed, streamed = [await run("bash", "-c", code) for code in given]
    assert json.loads(ranked)["results"][0]["index"] == 1
    assert json.loads(listed)[0]["text"] == "Lost in space"
    assert streamed.rstrip().endswith("data: [DONE]")


async def test_open_webui_is_answered(make: Make, settings: Settings, serve: Serve) -> None:
    """What its external reranker and its chat send, by the variables of the page; Open WebUI itself
    is not run."""
    base = await served(make, settings, serve, KEY)
    (code,) = blocks("Open WebUI", "sh")
    names = " ".join(re.findall(r"^(\w+)=", code, flags=re.MULTILINE))
    code = code.replace("http://localhost:8080", base).replace("=KEY", f"={shlex.quote(KEY)}")
    script = f"set -eu\n{code}\n"
    told = await run("bash", "-c", f'{script}for name in {names}; do echo "$name=${{!name}}"; done')
    given = dict(line.split("=", 1) for line in told.splitlines())
    rerank = {
        "model": given["RAG_RERANKING_MODEL"],
        "query": "a scary film",
        "documents": ["Bread", "Horror"],
        "top_n": 2,
    }
    headers = {
        "Authorization": f"Bearer {given['RAG_EXTERNAL_RERANKER_API_KEY']}",
        "X-OpenWebUI-User-Id": "ann",
    }
    async with httpx.AsyncClient(headers=headers, timeout=60) as client:
        found = (await client.post(given["RAG_EXTERNAL_RERANKER_URL"], json=rerank)).json()[
            "results"
        ]
        assert sorted(one["index"] for one in found) == [0, 1]
        client.headers["Authorization"] = f"Bearer {given['OPENAI_API_KEYS']}"
        listed = (await client.get(f"{given['OPENAI_API_BASE_URLS']}/models")).json()["data"]
        assert listed[0]["id"] == "whyrank"


async def test_gorse_is_answered_by_what_its_configuration_on_the_page_sends(
    make: Make, settings: Settings, serve: Serve
) -> None:
    base = await served(make, settings, serve, KEY)
    (code,) = blocks("Gorse", "toml")
    ranker = tomllib.loads(code.replace("http://localhost:8080", base).replace("KEY", KEY))[
        "recommend"
    ]["ranker"]
    rendered = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False).from_string  # noqa: S701  no HTML
    api = ranker["reranker_api"]
    liked = [{"ItemId": one, "FeedbackType": "Like"} for one in ("alien", "thing")]
    for user, feedback, first in (("new", liked, 1), ("ann", [], 1), ('"q" <b> \\', [], 0)):
        query = rendered(ranker["query_template"]).render(user={"UserId": user}, feedback=feedback)
        items = [
            rendered(ranker["document_template"]).render(item={"ItemId": one})
            for one in ("notting", "solaris")
        ]
        body = {"model": api["model"], "query": query, "documents": items}
        async with httpx.AsyncClient(
            headers={"Authorization": f"Bearer {api['auth_token']}"}
        ) as client:
            answer = await client.post(api["url"], json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["results"][0]["index"] == first
        assert sorted(one["index"] for one in answer.json()["results"]) == [0, 1]


def test_every_python_section_of_the_page_is_run_by_a_client() -> None:
    sections = list(
        dict.fromkeys(one.heading for one in snippets(PAGE) if one.language == "python")
    )
    scripts = "".join(one.read_text() for one in (HOUSE / "tests" / "clients").glob("*.py"))
    assert len(sections) == 5
    assert [one for one in sections if f'as_told("{one}")' not in scripts] == []

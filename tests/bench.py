"""`make bench`: the service's own time around the model call on MovieLens-100K, and a large report.
No test: it prints."""

import asyncio
import csv
import json
import random
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from eval.cases import Case, Data
from eval.protocols import Options
from eval.protocols import make as make_cases
from eval.rows import Attempt, RunJob, append, row_of, rows
from eval.run import Run
from eval.suite import Arm, Suite
from service.build import build, open_store
from service.cli.feeds import CHUNK
from service.config import HOUSE, Settings
from service.engine import server
from service.engine.fetch import pull_set
from service.feeds.files import open_feed
from service.schema import Feed, RecommendRequest
from tests.conftest import MODELS, backwards, free_port, on_real_tiny, sent
from tests.scripted import ScriptedLLM

RUNS = 200
ROWS = 100_000


async def test_overhead(tmp_path: Path) -> None:
    found = Settings.load(HOUSE / "configs" / "cpu.yaml")
    feeds = pull_set("movielens-100k", found.data, lambda what, done, total: None)
    settings = found.model_copy(update={"data": tmp_path})
    service = await build(
        settings, llms={alias: ScriptedLLM(backwards, alias=alias) for alias in settings.models}
    )
    puts: dict[Feed, Callable[[list[Any]], Awaitable[Any]]] = {
        "items": service.ingest.items,
        "users": service.ingest.users,
        "events": service.ingest.events,
    }
    for feed, put in puts.items():
        with open_feed(feeds / f"{feed}.jsonl", feed) as file:
            await put([line.row for line in file.lines])
    await service.ingest.embed_pending()
    parts: dict[str, list[float]] = {}
    for n in range(RUNS):
        start = time.perf_counter()
        ranking = await service.recommender.recommend(
            RecommendRequest(user_id=str(1 + n), top_n=50)
        )
        parts.setdefault("whole", []).append((time.perf_counter() - start) * 1000)
        for name in ("state_ms", "retrieve_ms", "model_ms", "explain_ms"):
            parts.setdefault(name, []).append(getattr(ranking.timings, name))
        assert len(ranking.items) == 50
    print(f"\nservice time around an instant model, 50 candidates of 1,682 items, {RUNS} users")
    for name, values in parts.items():
        cuts = statistics.quantiles(values, n=20)
        print(f"  {name:12} median {statistics.median(values):6.1f} ms   p95 {cuts[-1]:6.1f} ms")
    await service.close()


async def test_likelihood(tmp_path: Path) -> None:
    """20 films after 10, `tiny` in this process: against one plain pass of transformers over as
    many tokens, and against 20 prompts to a vLLM on the same machine. Each pair in turns, so that
    what else the machine does slows both."""
    import torch
    from transformers import AutoModelForCausalLM

    from service.llm.local import Local
    from service.llm.openai import VLLM

    found = Settings.load(HOUSE / "configs" / "cpu.yaml")
    feeds = pull_set("movielens-100k", found.data, lambda what, done, total: None)
    with open_feed(feeds / "items.jsonl", "items") as file:
        titles = [line.row["title"] for line in file.lines if line.row]
    local = Local("tiny", MODELS / "tiny", threads=2, cache_mb=256)
    plain = AutoModelForCausalLM.from_pretrained(MODELS / "tiny", dtype=torch.bfloat16).eval()
    settings = on_real_tiny(tmp_path, free_port())
    dice = random.Random(0)
    times: dict[str, list[float]] = {}

    def took(name: str, start: float) -> None:
        times.setdefault(name, []).append(time.perf_counter() - start)

    async def ranked(history: list[str], shown: list[str]) -> int:
        context = "Films that one person liked:\n", *(f"{title}\n" for title in history)
        return (
            await local.loglikelihoods([sent(context, title) for title in shown])
        ).usage.total_tokens

    def one_pass(tokens: torch.Tensor) -> None:
        """On the other's thread: each thread that calls torch has a team of its own, and two teams
        fight for the cores."""
        with torch.inference_mode():
            plain(input_ids=tokens, use_cache=True)

    with server.running(settings):
        model = settings.models["tiny"]
        server_side = VLLM("tiny", model=model.model, base_url=model.base_url)
        for n in range(-3, 25):
            if n == 0:
                times.clear()  # the first ones make kernels
            history, shown = dice.sample(titles, 10), dice.sample(titles, 20)
            context = "Films that one person liked:\n", *(f"{title}\n" for title in history)
            start = time.perf_counter()
            await ranked(history, shown)
            took("first", start)
            start = time.perf_counter()
            await ranked(history, dice.sample(titles, 20))
            took("repeat", start)
            text = "".join([*context, *(f"{title}\n" for title in shown)])
            tokens = torch.tensor(
                [Tokenizer.from_file(str(MODELS / "tiny" / "tokenizer.json")).encode(text).ids]
            )
            start = time.perf_counter()
            await asyncio.get_running_loop().run_in_executor(local._thread, one_pass, tokens)
            took("plain", start)
            if n % 5 == 0:
                start = time.perf_counter()
                await server_side.loglikelihoods([sent(context, title) for title in shown])
                took("http", start)
        await server_side.close()
    first, repeat, one, http = (
        statistics.median(times[name]) for name in ("first", "repeat", "plain", "http")
    )
    print(
        f"\nlikelihood of 20 films after 10, tiny: median {1000 * first:.0f} ms, again "
        f"{1000 * repeat:.0f} ms"
    )
    print(
        f"  a plain pass over as many tokens: {1000 * one:.0f} ms; first {first / one:.2f} of "
        f"it, again {repeat / one:.2f}"
    )
    print(f"  20 prompts to vLLM: {http / first:.1f} times as long")


async def test_overhead_of_evaluation(tmp_path: Path) -> None:
    """What `whyrank eval run` adds to a ranking: one at a time, the run's time less the rankings'
    own."""
    found = Settings.load(HOUSE / "configs" / "cpu.yaml")
    feeds = pull_set("movielens-100k", found.data, lambda what, done, total: None)
    make_cases(Data.read(feeds), "temporal", tmp_path / "cases", Options(found.events.of("movies")))
    suite = Suite(data=[tmp_path / "cases"], strategies=["prior"])
    async with Run.open(suite, found, tmp_path / "run", build, RUNS) as run:
        start = time.perf_counter()
        done = await run.go(concurrency=1)
        took = time.perf_counter() - start
    own = (took - sum(row.seconds for row in rows(tmp_path / "run"))) / done.total
    print(f"\nevaluation's own time: {1000 * own:.2f} ms a ranking, {done.total} rankings")


def test_report_of_many_rows(tmp_path: Path) -> None:
    """`whyrank eval report` on 100,000 rows, in a process of its own: seconds and peak memory."""
    items = [f"i{n}" for n in range(1_700)]
    dice = random.Random(0)
    folder, out = tmp_path / "cases", tmp_path / "run"
    folder.mkdir()
    out.mkdir()
    lines = [
        {"id": item, "title": item, "attributes": {"genre": [f"g{n % 19}", f"g{n % 7}"]}}
        for n, item in enumerate(items)
    ]
    cases = [
        {"case_id": str(n), "user_id": f"u{n}", "relevant": dice.sample(items, 10)}
        for n in range(1_000)
    ]
    for name, nouns in (("items", lines), ("events", []), ("cases", cases)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(noun) + "\n" for noun in nouns))
    settings = Settings.load(HOUSE / "configs" / "test.yaml")
    suite = Suite(data=[folder])
    parts = {
        "suite": suite.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
        "folders": [str(folder)],
    }
    arms = ["prior", "popular", *(f"arm-{m}" for m in range(98))]
    parts |= {
        "domain": settings.service.domain,
        "data": {"cases": Data.read(folder).sha},
        "windows": dict.fromkeys(arms, 20),
        "notes": [],
    }
    (out / "manifest.json").write_text(json.dumps(parts))
    with (out / "rows.jsonl").open("w") as file:
        for n in range(ROWS):
            job = RunJob(
                Arm(name=arms[n % 100], data=folder, strategy="prior"),
                Case.model_validate(cases[n // 100]),
            )
            row = replace(
                row_of(job, Attempt(seconds=0.5)), items=dice.sample(items, 50), scores=[0.5] * 50
            )
            append(file, row)
    code = (
        "import resource, sys; from pathlib import Path; from eval.publish import write; "
        "from eval.report import report; out = Path(sys.argv[1]); "
    )
    code += (
        "write(report(out), out); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    start = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-c", code, str(out)], capture_output=True, text=True, check=True
    )
    print(
        f"\nreport of {ROWS:,} rows of 100 arms: {time.perf_counter() - start:.1f} s, peak "
        f"{ran.stdout.strip()} MB"
    )


async def test_rate_of_csv_events(tmp_path: Path) -> None:
    """100,000 events of a CSV file, read, checked and stored as `whyrank ingest events` does,
    against csv.DictReader and executemany of the same rows into the same table, in batches of the
    same size, each on disk before the next."""
    dice, file = random.Random(0), tmp_path / "events.csv"
    with file.open("w", newline="") as out:
        rows_of = csv.writer(out)
        rows_of.writerow(["user_id", "item_id", "type", "value", "occurred_at"])
        for n in range(ROWS):
            who, item = f"u{dice.randrange(5_000)}", f"i{dice.randrange(3_000)}"
            rows_of.writerow(
                [who, item, "rating", dice.randint(1, 5), 1_600_000_000_000 + n * 1_000]
            )
    base = Settings.load(HOUSE / "configs" / "test.yaml")
    ratios, plain = [], []
    for n in range(3):
        settings = base.model_copy(update={"data": tmp_path / f"bare-{n}"})
        open_store(settings).close()
        bare = _bare_inserts(file, settings.data / "whyrank.db")
        plain.append(_bare_inserts(file, tmp_path / f"plain-{n}.db"))
        service = await build(base.model_copy(update={"data": tmp_path / f"ours-{n}"}), llms={})
        start = time.perf_counter()
        with open_feed(file, "events") as opened:
            while lines := list(islice(opened.lines, CHUNK)):
                report = await service.ingest.events([line.row for line in lines], opened.notes)
                assert report.accepted == len(lines)
        ours = time.perf_counter() - start
        await service.close()
        ratios.append((bare / ours, plain[-1] / ours, ROWS / ours))
    same, unindexed, rate = (statistics.median(values) for values in zip(*ratios, strict=True))
    print(
        f"\n{ROWS:,} events of CSV: {rate:,.0f} a second, {same:.2f} of bare inserts into the "
        f"same table"
    )
    print(
        f"  ({unindexed:.2f} of bare inserts into a table without keys and indexes); medians of "
        f"{len(ratios)} runs"
    )


def _bare_inserts(file: Path, database: Path) -> float:
    """Seconds that csv.DictReader and executemany take; into whyrank's table, or one without keys
    where there is none."""
    start = time.perf_counter()
    with (
        closing(sqlite3.connect(database, isolation_level=None)) as bare,
        file.open(newline="") as lines,
    ):
        bare.execute("PRAGMA journal_mode=WAL")
        bare.execute("PRAGMA synchronous=FULL")
        columns = (
            "who TEXT, event_id TEXT, item_id TEXT, type TEXT, value REAL, occurred_at INTEGER"
        )
        bare.execute(f"CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, {columns})")
        insert = (
            "INSERT INTO events (who, event_id, item_id, type, value, occurred_at) VALUES "
            "(?, ?, ?, ?, ?, ?)"
        )
        reader = csv.DictReader(lines)
        while chunk := list(islice(reader, CHUNK)):
            bare.execute("BEGIN")
            bare.executemany(insert, [_bare_row(row) for row in chunk])
            bare.execute("COMMIT")
    return time.perf_counter() - start


def _bare_row(row: dict[str, str]) -> tuple[str, str, str, str, float, int]:
    at = int(row["occurred_at"])
    return (
        row["user_id"],
        f"{row['item_id']} {at}",
        row["item_id"],
        row["type"],
        float(row["value"]),
        at * 1_000,
    )

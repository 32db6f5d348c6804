"""The page, also in a real browser where one is installed."""

import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

from eval.page import page
from eval.publish import write
from eval.results import is_bound
from eval.suite import Suite
from tests.conftest import CHROMIUM, needs_chromium
from tests.test_eval_run import CASES, Play, play, suite

__all__ = ["play", "suite"]  # fixtures


async def test_the_page_names_its_data_and_its_date_first(
    suite: Suite, play: Play, tmp_path: Path
) -> None:
    shown = page(await play(suite, limit=7))
    begun_at = datetime.fromisoformat(
        json.loads((tmp_path / "run" / "manifest.json").read_text())["begun_at"]
    )
    assert timedelta() <= datetime.now(UTC) - begun_at < timedelta(minutes=10)
    head = " ".join(re.sub("<.*?>", "", shown.split("<body>")[1].split("<h2>")[0]).split())
    day = f"{begun_at.day} {begun_at:%B %Y, %H:%M} UTC"
    assert head.endswith(
        f"toy: 7 cases (folder cases, protocol given) · run on {day} · whyrank 0.1.0"
    )


async def test_a_run_that_goes_on_keeps_the_date_at_which_it_began(
    suite: Suite, play: Play, tmp_path: Path
) -> None:
    few = suite.model_copy(update={"strategies": ["prior"], "baseline": "prior"})
    await play(few, limit=2)
    file = tmp_path / "run" / "manifest.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"begun_at": "2026-01-31T12:00:00+00:00"})
    )
    assert "31 January 2026, 12:00 UTC" in page(await play(few, limit=4))
    known = json.loads(file.read_text())
    del known["begun_at"]  # a folder of an earlier version
    file.write_text(json.dumps(known))
    assert "run on" not in page(await play(few, limit=CASES))


def dots(picture: str) -> list[tuple[float, float, float]]:
    """(x, y, radius) of each."""
    found = re.findall(r'<circle class="\w+" cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"/>', picture)
    return [(float(x), float(y), float(radius)) for x, y, radius in found]


async def test_no_dot_covers_another_though_all_arms_are_equal(suite: Suite, play: Play) -> None:
    found = await play(suite.model_copy(update={"probes": 0}), limit=10)
    equal = {"values": found.lines[1].values, "interval": found.lines[1].interval}
    rates = [
        {**line.rates, "seconds_p50": 0.02 if line.rates["seconds_p50"] else None}
        for line in found.lines
    ]
    twins = [
        replace(line, **equal, rates=rate) for line, rate in zip(found.lines, rates, strict=True)
    ]
    copies = [replace(line, arm=f"{line.arm} {n}") for n in range(4) for line in twins]
    intervals, latency = page(replace(found, lines=copies)).split("<svg")[1:]
    assert len(dots(intervals)) == len(copies)
    assert len(dots(latency)) == len([line for line in copies if not is_bound(line.arm)]) > 10
    for picture in (intervals, latency):
        for (x, y, radius), (other_x, other_y, other) in combinations(dots(picture), 2):
            assert math.dist((x, y), (other_x, other_y)) > radius + other


async def opened(html: Path, script: str, width: int, height: int) -> tuple[Any, list[str]]:
    """What a script finds in a browser's window of this size, and what the browser complained of or
    asked the network for."""
    from playwright.async_api import async_playwright

    said: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = await browser.new_page(viewport={"width": width, "height": height})
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on(
            "request",
            lambda request: (
                said.append(request.url) if not request.url.startswith(("file:", "data:")) else None
            ),
        )
        await tab.goto(html.as_uri())
        found = await tab.evaluate(script)
        await browser.close()
    return found, said


PICTURES = """() => {
    const pictures = [...document.querySelectorAll("svg")];
    const outside = pictures.flatMap(svg => [...svg.querySelectorAll("text")].filter(text => {
        const box = text.getBoundingClientRect(), frame = svg.getBoundingClientRect();
        return box.left < frame.left - 1 || box.right > frame.right + 1
            || box.bottom > frame.bottom + 1;
    }).map(text => text.textContent));
    const overlapping = pictures.flatMap(svg => {
        const boxes = [...svg.querySelectorAll("text")].map(
            text => [text.textContent, text.getBoundingClientRect()]
        );
        return boxes.flatMap(([one, a], n) => boxes.slice(n + 1).filter(([, b]) =>
            a.left < b.right - 2 && b.left < a.right - 2
            && a.top < b.bottom - 4 && b.top < a.bottom - 4
        ).map(([other]) => one + " / " + other));
    });
    const boxes = pictures.map(svg => svg.getBoundingClientRect());
    const sizes = boxes.map(box => [box.width, box.height]);
    return {outside, overlapping, sizes};
}"""


@needs_chromium
async def test_the_page_opens_without_errors_and_its_pictures_hold_their_text(
    suite: Suite, play: Play, tmp_path: Path
) -> None:
    write(await play(suite, by=("side",)), tmp_path / "run")
    found, said = await opened(tmp_path / "run" / "report.html", PICTURES, 1_100, 900)
    assert said == []
    assert found["outside"] == []
    assert found["overlapping"] == []
    assert len(found["sizes"]) == 2
    assert all(width > 600 and height > 100 for width, height in found["sizes"])


TABLES = """() => ({
    page: [document.documentElement.scrollWidth, innerWidth],
    board: (({top, bottom}) => [top, bottom])(
        document.querySelector("table").getBoundingClientRect()
    ),
    widths: [...document.querySelectorAll(".scroll")].map(x => [x.scrollWidth, x.clientWidth]),
    heights: [...document.querySelectorAll(".scroll")].map(one => one.clientHeight),
})"""


@needs_chromium
async def test_the_leaderboard_fits_a_screen_and_long_tables_scroll_within_themselves(
    suite: Suite, play: Play, tmp_path: Path
) -> None:
    found = await play(suite)
    html = tmp_path / "page.html"
    html.write_text(page(found))
    shown, _ = await opened(html, TABLES, 1_280, 800)
    assert shown["page"][0] <= 1_280
    assert shown["board"][1] < 800
    assert [wide for wide, room in shown["widths"] if wide > room] == []
    copies = [
        replace(line, arm=f"{line.arm} with other settings {n}")
        for n in range(9)
        for line in found.lines
    ]
    html.write_text(page(replace(found, lines=copies)))
    shown, _ = await opened(html, TABLES, 1_280, 800)
    assert shown["page"][0] <= 1_280
    assert shown["widths"][0][0] <= shown["widths"][0][1]
    assert all(height < 800 for height in shown["heights"])

"""The page, in a real browser where one is installed."""

from pathlib import Path

from eval import report as reports
from eval.suite import Suite
from tests.conftest import CHROMIUM, needs_chromium
from tests.test_eval_run import Play, play, suite

__all__ = ["play", "suite"]  # fixtures


@needs_chromium
async def test_the_page_opens_without_errors_and_its_pictures_hold_their_text(suite: Suite, play: Play, tmp_path: Path) -> None:
    from playwright.async_api import async_playwright

    found = await play(suite, by=("side",))
    reports.write(found, tmp_path / "run")
    said: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1_100, "height": 900})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
        await page.goto((tmp_path / "run" / "report.html").as_uri())
        pictures = await page.locator("svg").all()
        outside = await page.evaluate(
            """() => [...document.querySelectorAll("svg text")].filter(text => {
                const box = text.getBoundingClientRect(), frame = text.closest("svg").getBoundingClientRect();
                return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
            }).map(text => text.textContent)"""
        )
        overlapping = await page.evaluate(
            """() => [...document.querySelectorAll("svg")].flatMap(svg => {
                const boxes = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
                return boxes.flatMap(([one, a], n) => boxes.slice(n + 1).filter(([, b]) =>
                    a.left < b.right - 2 && b.left < a.right - 2 && a.top < b.bottom - 4 && b.top < a.bottom - 4
                ).map(([other]) => one + " / " + other));
            })"""
        )
        sizes = [await picture.bounding_box() for picture in pictures]
        await browser.close()
    assert said == []
    assert outside == []
    assert overlapping == []
    assert len(sizes) == 2
    assert all(size is not None and size["width"] > 600 and size["height"] > 100 for size in sizes)

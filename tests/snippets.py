"""The code of our documents, as their readers would copy it. Imports the standard library only:
clients' environments have nothing else."""

import io
import re
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

HOUSE = Path(__file__).resolve().parents[1]
PAGES = ("README.md", *sorted(f"docs/{file.name}" for file in (HOUSE / "docs").glob("*.md")))
RUNNABLE = {
    "sh": "sh",
    "bash": "sh",
    "shell": "sh",
    "console": "sh",
    "python": "python",
    "py": "python",
}
"""Languages, as they stand behind a fence, that a reader would run, by the name that we give
them."""


@dataclass(frozen=True)
class Snippet:
    """A fenced block: the n-th of its language under its heading."""

    page: str
    heading: str
    language: str
    number: int
    code: str

    def __str__(self) -> str:
        """Its name in the tables of tests/test_promises.py, and in their failures."""
        return f"{self.page} § {self.heading}, {self.language} {self.number}"


def snippets(page: str) -> list[Snippet]:
    """All fenced blocks of a page that say their language, in order. `page`: its path in the
    repository."""
    found: list[Snippet] = []
    counts: Counter[tuple[str, str]] = Counter()
    heading = ""
    parts = re.finditer(
        r"^#+ ([^\n]+)$|^( *)```(\w*)\n(.*?)^\2```",
        (HOUSE / page).read_text(),
        flags=re.MULTILINE | re.DOTALL,
    )
    for title, _, fence, code in (part.groups() for part in parts):
        if title is not None:
            heading = title
        elif fence:
            language = RUNNABLE.get(fence, fence)
            counts[heading, language] += 1
            found.append(Snippet(page, heading, language, counts[heading, language], dedent(code)))
    return found


def run_python(code: str, page: str) -> None:
    """Run code as a reader would; comments that begin with `>` are the lines that it prints."""
    printed, wanted = io.StringIO(), re.findall(r"^# ?> (.*)$", code, flags=re.MULTILINE)
    with redirect_stdout(printed):
        exec(compile(code, page, "exec"), {"__name__": "__main__"})  # noqa: S102  code of our own page
    assert not wanted or printed.getvalue().splitlines() == wanted, printed.getvalue()

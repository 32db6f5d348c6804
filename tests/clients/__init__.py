"""Real clients against a served whyrank, as their users would read what comes back.

    python -m tests.clients.FAMILY BASE_URL [KEY]

by the python of the family's own environment (`make clients`), in which nothing of ours is
installed: these files import the standard library and their client only. Without KEY the service at
BASE_URL must not ask for one. Exit code 0: all as told.
"""

import sys
from collections.abc import Callable
from typing import Any

from tests.snippets import run_python, snippets

BASE = sys.argv[1] if len(sys.argv) > 1 else ""
KEY = sys.argv[2] if len(sys.argv) > 2 else "none"
LOCKED = len(sys.argv) > 2
"""Does the service ask for a key?"""

QUERY = "a scary film in space"
DOCS = [
    "How to bake bread",
    "A crew in space is hunted by an alien: a horror film",
    "A romantic comedy in London",
]
BEST = 1
"""Which of them the query means."""

NEEDS_KEY = "key is needed"
NOTHING = "nothing to rank"
DEFAULT_ANSWERED = "is not configured here: the default answered"
NO_MODEL = "no model 'gpt-99'; known: whyrank, "
PAGE = "docs/clients.md"


def refused(
    kind: type[Exception], told: str, call: Callable[..., Any], *given: Any, **named: Any
) -> Any:
    """The client's own error for this call, in which our message can be read."""
    try:
        answer = call(*given, **named)
    except kind as error:
        if told in str(error):
            return error
        raise
    raise AssertionError(f"expected {kind.__name__}, got {answer}")


def blocks(heading: str, language: str) -> list[str]:
    """The page's code of this language under this heading."""
    return [
        one.code for one in snippets(PAGE) if (one.heading, one.language) == (heading, language)
    ]


def as_told(heading: str) -> None:
    """Run a section of the page as a reader would."""
    for code in blocks(heading, "python"):
        run_python(code.replace("http://localhost:8080", BASE).replace("KEY", KEY), PAGE)

"""What a reasoning model thinks before it answers, taken out of the stream: `<think>…</think>`,
closed or not."""

from __future__ import annotations

import re

OPEN = re.compile(r"<think(?:ing)?>")
CLOSE = re.compile(r"</think(?:ing)?>")
TAGS = ("<think>", "<thinking>", "</think>", "</thinking>")


class Thoughts:
    """Fed piece by piece, gives what is answer of it; a tag may be cut anywhere between two pieces.
    White space before an answer is no part of it."""

    def __init__(self) -> None:
        self._held = ""
        self._thinking = self._begun = False

    def without(self, piece: str) -> str:
        text, said = self._held + piece, ""
        while found := (CLOSE if self._thinking else OPEN).search(text):
            said += "" if self._thinking else text[: found.start()]
            text, self._thinking = text[found.end() :], not self._thinking
        keep = _begun_tag(text)
        self._held = text[len(text) - keep :]
        return self._answer(said + ("" if self._thinking else text[: len(text) - keep]))

    def rest(self) -> str:
        """What was held back as the beginning of a tag that never came; an unclosed thought is
        none."""
        held, self._held = self._held, ""
        return "" if self._thinking else self._answer(held)

    def _answer(self, said: str) -> str:
        said = said if self._begun else said.lstrip()
        self._begun = self._begun or bool(said)
        return said


def _begun_tag(text: str) -> int:
    """How many of the last characters may be the beginning of a tag."""
    start = text.rfind("<")
    return (
        len(text) - start if start >= 0 and any(tag.startswith(text[start:]) for tag in TAGS) else 0
    )


def answer_of(text: str) -> str:
    """A whole answer without thoughts whose beginning stood in the prompt, so that only their end
    was written."""
    return CLOSE.split(text)[-1]

"""Reads a model's answer line by line; each line is about one item."""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress

from service.errors import InvalidOutput, ModelError, ModelTimeout
from service.explain.wording import ENGLISH, Language
from service.llm import LLM, Call, Piece
from service.llm.thinking import answer_of
from service.prompts import LETTERS

LONGEST_LINE = 1_000
"""Longest line that is accepted, in characters. Without a grammar a model may never end one."""


class Lines:
    """Reads a model's answer line by line, until the deadline (time of the event loop)."""

    def __init__(self, llm: LLM, call: Call, deadline: float) -> None:
        self._pieces = llm.stream(call)
        self._deadline = deadline
        self._text = ""

    async def next(self) -> str:
        """Returns the next line. Raises a `ModelError` if none is complete by the deadline."""
        while "\n" not in self._text:
            if len(self._text) > LONGEST_LINE:
                raise InvalidOutput("a line without an end")
            piece = await self._piece()
            if piece is None and not self._text:
                raise InvalidOutput("fewer lines than asked for")
            self._text += "\n" if piece is None else piece.text
        line, _, self._text = self._text.partition("\n")
        return line

    async def finish(self) -> None:
        """Reads the rest of the answer, at most until the deadline: its last piece carries the
        usage."""
        with suppress(ModelError):
            while await self._piece():
                pass

    async def close(self) -> None:
        """Stops the model if it is still writing."""
        await self._pieces.aclose()

    async def _piece(self) -> Piece | None:
        if asyncio.get_running_loop().time() >= self._deadline:
            raise ModelTimeout("the deadline passed")
        try:
            async with asyncio.timeout_at(self._deadline):
                return await anext(self._pieces, None)
        except TimeoutError as error:
            raise ModelTimeout("the deadline passed") from error


class Each:
    """Runs several calls at the same time, each of which answers with one line.

    Each call has a task of its own, which is cancelled exactly once. The task that uses this object
    may be cancelled many times (as when a client disconnects), and that must not interrupt the
    closing of a call.
    """

    def __init__(self, answers: Sequence[Lines]) -> None:
        self._answers = answers
        self._lines = [asyncio.create_task(answer.next()) for answer in answers]

    async def of(self, place: int) -> str:
        await asyncio.wait([self._lines[place]])
        return self._lines[place].result()

    async def finish(self) -> None:
        for answer in self._answers:
            await answer.finish()

    async def close(self) -> None:
        for line in self._lines:
            line.add_done_callback(lambda line: line.cancelled() or line.exception())
            line.cancel()
        await asyncio.wait(self._lines)
        for answer in self._answers:
            await answer.close()


class Loose(Lines):
    """Reads the answer of a model without a grammar: one line for each item, which begins with the
    item's letter. Skips anything else."""

    def __init__(self, llm: LLM, call: Call, deadline: float, language: Language) -> None:
        super().__init__(llm, call, deadline)
        self._language = language
        self._by_letter: dict[str, str] = {}

    async def of(self, place: int) -> str:
        """Returns the line on an item, in the grammar's form; empty if the model skipped the
        item."""
        letter = LETTERS[place]
        while not any(seen >= letter for seen in self._by_letter):
            line = tidied(await self.next(), self._language)
            if line:
                self._by_letter.setdefault(line[0], line)
        return self._by_letter.get(letter, "")


_LOOSE = re.compile(
    r"\W*(?:\d+\W+)?([A-Z])\W{1,6}(h\d+(?:\W{1,5}(?:(?:and|or) )?h\d+)*)\W{1,6}(.+)"
)


def tidied(line: str, language: Language) -> str:
    """Rewrites a line into the form that the grammar prescribes; empty if that isn't possible."""
    match = _LOOSE.fullmatch(answer_of(line)) if len(line) <= LONGEST_LINE else None
    if match is None:
        return ""
    clause = re.sub(r"^(it |它)", "", match[3].strip(" *_`"), flags=re.IGNORECASE)
    clause = clause[:1].lower() + clause[1:].removesuffix(language.stop) + language.stop
    labels = ",".join(re.findall(r"h\d+", match[2]))
    return f"{match[1]} [{labels}] {clause}" if re.fullmatch(language.rule()[1:-1], clause) else ""


def grammar(choices: Sequence[tuple[int, ...]], language: Language = ENGLISH) -> str:
    """The llguidance grammar of one item's line: one of the allowed sets of labels, then a clause
    of bounded length."""
    options = " | ".join(f'"{joined_labels(labels)}"' for labels in choices)
    return f'start: "A [" ({options}) "] " why\nwhy: {language.rule()}\n'


def joined_labels(labels: Sequence[int]) -> str:
    return ",".join(f"h{label}" for label in labels)

"""Lets a model write a clause on each item, from facts with labels, under a grammar that ties each
clause to the facts that it cites; checks it, and asks once more for what can't stand."""

import asyncio
import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from service.context import CallContext
from service.errors import InvalidOutput, ModelTimeout
from service.explain.check import Fact, Objection, objection
from service.explain.claims import Sayable
from service.explain.grammar import grammar
from service.explain.language import Language
from service.explain.sentences import Clause
from service.llm import LLM, Call, OutputConstraint
from service.llm.asking import ask
from service.prompts import LETTERS, Message, Prompt, harmless

LINE_TOKENS = 64
"""Most tokens of a line; Chinese and Japanese take twice as many."""
PROSE_TOKENS = 100
"""Extra output tokens for text around the lines, when no grammar prevents it."""
LONGEST_LINE = 1_000
"""Longest line that is read, in characters."""
OFFERED = 4
"""Most phrases of its text that a model is offered for an item."""
KEPT = 20_000
"""How many items' clauses are kept."""


@dataclass(frozen=True)
class Sheet:
    """The facts on one item, as a model reads them: `f1`, `f2` and so on, in order. `choices`: sets
    of their numbers, from 1, of which a clause may cite one."""

    facts: Sequence[Fact]
    choices: Sequence[tuple[int, ...]]

    def shown(self, letter: str) -> dict[str, Any]:
        """The sheet as a template prints it."""
        lines = [{"label": f"f{n}", "text": fact.text} for n, fact in enumerate(self.facts, 1)]
        return {"label": letter, "facts": lines}

    def grammar(self, language: Language) -> str:
        """The grammar of the line that a model writes on it."""
        return grammar(self.facts, self.choices, language)


def sheet_of(told: Sayable, language: Language) -> Sheet | None:
    """The facts from which a model may write on an item; None if there is too little to say."""
    facts: list[Fact] = []
    for kind, pairs in (("shared", told.shared), ("attribute", told.own)):
        if pairs:
            values = [str(value) for _, value in pairs]
            led = [[form.format(value) for form in language.led(key)] for key, value in pairs]
            facts.append(Fact(kind, language.phrase(pairs), values, led))
    base = tuple(range(1, len(facts) + 1))
    chunks = [chunk for chunk in told.chunks if harmless(chunk) == chunk][:OFFERED]
    facts += [Fact("text", chunk, [chunk]) for chunk in chunks]
    choices = [(*base, len(base) + n) for n in range(1, len(chunks) + 1)] or [base]
    return Sheet(facts, choices) if facts else None


@dataclass
class Kept:
    """Clauses that a model wrote, for the same facts, prompt, model and language; the latest
    `KEPT`. None: it wrote none that may stand."""

    _clauses: OrderedDict[str, Clause | None] = field(default_factory=OrderedDict)

    def __contains__(self, key: str) -> bool:
        return key in self._clauses

    def get(self, key: str) -> Clause | None:
        self._clauses.move_to_end(key)
        return self._clauses[key]

    def put(self, key: str, clause: Clause | None) -> None:
        self._clauses[key] = clause
        while len(self._clauses) > KEPT:
            self._clauses.popitem(last=False)


@dataclass(frozen=True)
class Writer:
    """The model that writes. `constraint`: what constrains its output; `kept`: what it wrote
    before."""

    llm: LLM
    constraint: OutputConstraint = OutputConstraint()
    kept: Kept = field(default_factory=Kept)


@dataclass(frozen=True)
class Task:
    """How a list's clauses are written. `deadline`: time of the event loop."""

    prompt: Prompt
    language: Language
    deadline: float
    context: CallContext


class Writing:
    """A model at work on a list: with a grammar each item has a call of its own, all at the same
    time, so that no item's text can touch another's reason; without one a single call writes all,
    as such models usually charge by the token.

    Each call has a task of its own, which is cancelled exactly once. The task that uses this object
    may be cancelled many times (as when a client disconnects), and that must not interrupt the
    closing of a call.
    """

    def __init__(self, writer: Writer, task: Task, sheets: Mapping[int, Sheet]) -> None:
        self._writer, self._task, self._sheets = writer, task, sheets
        self.asked = [n for n in sheets if self._key(n) not in writer.kept]
        alone = writer.constraint.grammar
        groups = [[n] for n in self.asked] if alone else [self.asked] if self.asked else []
        self._tasks: dict[int, asyncio.Task[None]] = {}
        for group in groups:
            running = asyncio.create_task(self._write(group))
            self._tasks.update(dict.fromkeys(group, running))

    async def of(self, n: int) -> Clause | None:
        """The clause on an item, when it is written; None if none may stand. Raises the model's
        error."""
        if n not in self._sheets:
            return None
        if n in self._tasks:
            await asyncio.wait([self._tasks[n]])
            self._tasks[n].result()
        return self._writer.kept.get(self._key(n))

    async def close(self) -> None:
        """Stops the model if it is still writing."""
        running = set(self._tasks.values())
        for task in running:
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _key(self, n: int) -> str:
        """Names all that the clause on an item depends on."""
        sheet, task = self._sheets[n], self._task
        parts = [[(fact.kind, fact.text, *fact.values) for fact in sheet.facts], sheet.choices]
        model = [self._writer.llm.alias, task.prompt.ref.sha, task.language.code]
        return hashlib.sha256(json.dumps([parts, model]).encode()).hexdigest()

    async def _write(self, group: Sequence[int]) -> None:
        """Writes the clauses of a group and keeps them. What can't stand is asked for once more,
        with what is wrong, if there is time."""
        messages = self._messages(group)
        answer = await self._ask(messages, group)
        found, wrong = self._read(answer, group)
        if not found and not self._writer.constraint.grammar and not _lines(answer):
            raise InvalidOutput("no line in the form that was asked for")
        if wrong:
            messages = [
                *messages,
                {"role": "assistant", "content": answer[:LONGEST_LINE]},
                {"role": "user", "content": self._again(wrong)},
            ]
            if asyncio.get_running_loop().time() < self._task.deadline:
                better, _ = self._read(await self._ask(messages, group), group)
                found |= {n: better[n] for n in wrong if n in better}
        for n in group:
            self._writer.kept.put(self._key(n), found.get(n))

    def _messages(self, group: Sequence[int]) -> list[Message]:
        shown = [self._sheets[n].shown(LETTERS[place]) for place, n in enumerate(group)]
        return self._task.prompt.render({"candidates": shown})

    def _again(self, wrong: Mapping[int, Objection]) -> str:
        return "\n".join(dict.fromkeys(one.said(self._task.language) for one in wrong.values()))

    async def _ask(self, messages: Sequence[Message], group: Sequence[int]) -> str:
        """Asks for the lines on a group's items. Raises a `ModelError` at the deadline."""
        task, grammars = self._task, self._writer.constraint.grammar
        tokens = LINE_TOKENS * (1 if task.language.spaced else 2)
        call = Call(
            list(messages),
            tokens if grammars else tokens * len(group) + PROSE_TOKENS,
            temperature=task.prompt.sampling.temperature,
            context=task.context,
        )
        if grammars:
            call = replace(call, grammar=self._sheets[group[0]].grammar(task.language))
        if asyncio.get_running_loop().time() >= task.deadline:
            raise ModelTimeout("the deadline passed")
        try:
            async with asyncio.timeout_at(task.deadline):
                return (await ask(self._writer.llm, call)).text
        except TimeoutError as error:
            raise ModelTimeout("the deadline passed") from error

    def _read(
        self, answer: str, group: Sequence[int]
    ) -> tuple[dict[int, Clause], dict[int, Objection]]:
        """The clauses of an answer that may stand, and what is wrong with the others."""
        lines = _lines(answer)
        found: dict[int, Clause] = {}
        wrong: dict[int, Objection] = {}
        for place, n in enumerate(group):
            cites, text = lines.get(LETTERS[place], ((), ""))
            sheet, language = self._sheets[n], self._task.language
            cited = [sheet.facts[one - 1] for one in cites if 0 < one <= len(sheet.facts)]
            if not cited or len(cited) < len(cites) or not _begun(text, language):
                wrong[n] = Objection("form")
                continue
            whole = text.rstrip(" *_`").removesuffix(language.stop) + language.stop
            fault = objection(whole, cited, language)
            if fault is None:
                said = whole.casefold()
                named = frozenset(
                    (fact.kind, value)
                    for fact in cited
                    for value in fact.values
                    if value.casefold() in said
                )
                found[n] = Clause(whole.removesuffix(language.stop), named)
            else:
                wrong[n] = fault
        return found, wrong


_LINE = re.compile(r"\W*(?:\d+\W+)?([A-Z])\W{1,6}(f\d+(?:\W{1,5}(?:(?:and|or) )?f\d+)*)\W{1,6}(.+)")


def _lines(answer: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """The cited facts and the clause of each line of an answer, by its letter; anything else is
    passed over."""
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for line in answer.splitlines():
        match = _LINE.fullmatch(line.strip()) if len(line) <= LONGEST_LINE else None
        if match is not None:
            cites = tuple(int(label[1:]) for label in re.findall(r"f\d+", match[2]))
            clause = re.sub(
                r"^(it |this one |它|这个)", "", match[3].strip(" *_`"), flags=re.IGNORECASE
            )
            found.setdefault(match[1], (cites, clause[:1].lower() + clause[1:]))
    return found


def _begun(text: str, language: Language) -> bool:
    """Whether a clause begins as one of the language may."""
    gap = " " if language.spaced else ""
    return text.startswith(tuple(start + gap for start in language.starts))

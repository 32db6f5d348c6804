"""Prompts: Jinja2 files with front matter, chosen by domain and locale, checked when loaded,
hashed, reloaded when edited.

A file `prompts/{domain}/{task}[.{locale}].j2` begins with YAML between `---` lines (id, version,
variables, sampling); its body has a `[system]` and a `[user]` part, or, for `score`, a `[head]` and
a `[line]` that is repeated for each item. Files whose names begin with `_` hold what several
templates include. An edit that can't be loaded is reported and the last good version stays in use.

Every string that a template prints is made harmless as it is printed, whatever the template's
author forgot: quotes, control characters, brackets, chat markers and what looks like a label are
replaced.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field, ValidationError

from service.errors import NotFound, PromptError
from service.schema import Candidate, Item, Label, PromptRef, UserState, Value

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
VARIABLES = {
    "history",
    "candidates",
    "latest",
    "instruction",
    "wanted",
    "avoided",
    "person",
    "locale",
    "answer",
    "title",
    "details",
    "values",
    "value",
}
"""The variables that a template may use.

`history`: lines with `label title details verb value`. `candidates`: lines with `label title
details`; in explain with `label` and `facts`, each with `label` and `text`. `latest`: title of the
newest liked item. `instruction`: what the person wants now; `wanted`, `avoided`: what of the
catalogue that means, and what is not to be. `person`: declared attributes as text. `locale`:
language of the answer. `answer`: its form: `order`, `order as JSON`, `letter`, `scores` or `yes or
no`. `title`, `details`: of the one item of a `score` template's line. `values`: the catalogue's own
values, in a `wish` template; `value`: the one of them that is asked about there. """

FAILURES = (TemplateError, TypeError, ValueError, ArithmeticError, AttributeError, LookupError)
"""Exceptions of a template that meets values its author did not expect."""

Message = dict[str, str]


class Sampling(Value):
    """How a model's tokens are sampled."""

    temperature: float = Field(0, ge=0, le=2)


class FrontMatter(Value):
    """The YAML at the beginning of a prompt's file."""

    id: str = Field(pattern=r"^[a-z0-9_-]+/[a-z]+(\.[a-zA-Z-]+)?$")
    version: str = Field(pattern=r"^[A-Za-z0-9._-]{1,32}$", coerce_numbers_to_str=True)
    variables: list[Label]
    sampling: Sampling = Sampling()


@dataclass(frozen=True)
class Prompt:
    """A checked template. `ref.sha`: hash of its source and of every file it includes; `parts`: by
    the name of each part (`system` and `user`, or `head` and `line`), its template."""

    ref: PromptRef
    sampling: Sampling
    parts: Mapping[str, Template]

    def render(self, variables: Mapping[str, Any]) -> list[Message]:
        """Returns the prompt as chat messages, one for each part. Raises `PromptError` if the
        template fails on these values."""
        try:
            return [
                {"role": role, "content": part.render(variables).strip()}
                for role, part in self.parts.items()
            ]
        except FAILURES as error:
            raise PromptError(f"prompt {self.ref.id} {self.ref.version}: {error}") from error

    def document(self, state: UserState, most: int, line_tokens: int) -> tuple[str, dict[int, str]]:
        """Returns the head of a `score` template and, by place in `state.recent` from 1, a line for
        each of the last `most` liked items. Head and lines end in a line break. `line_tokens`: the
        most bytes that an item's title and details have together."""
        liked = [
            (n, entry.item)
            for n, entry in enumerate(state.recent, 1)
            if entry.item is not None and entry.weight > 0
        ]
        return self._render_part("head", {}) + "\n", {
            n: self.line(item, line_tokens) + "\n" for n, item in liked[-most:]
        }

    def line(self, item: Item, line_tokens: int) -> str:
        """Returns an item's line as a `score` template writes it, without a line break.
        `line_tokens`: the most bytes that its title and details have together."""
        return self._render_part("line", _describe(item, line_tokens))

    def _render_part(self, name: str, variables: Mapping[str, str]) -> str:
        """Returns a part of a `score` template, rendered, on one line. Raises `PromptError` if the
        template fails on these values."""
        try:
            return " ".join(self.parts[name].render(variables).split()) or "untitled"
        except FAILURES as error:
            raise PromptError(f"prompt {self.ref.id} {self.ref.version}: {error}") from error


class PromptLibrary:
    """The prompts of a folder, as its files are now. The constructor raises `PromptError` if a file
    is bad. If one is bad after an edit, `failed(message)` is called and the prompts as they were
    stay in use."""

    def __init__(self, folder: Path, failed: Callable[[str], None] = lambda message: None) -> None:
        self._folder = folder
        self._failed = failed
        self._stamp = self._modified_at()
        self._prompts = _load(folder, self._stamp)
        if not self._prompts:
            raise PromptError(f"no prompts in {folder}")

    def find(self, task: str, domain: str, locale: str | None) -> Prompt:
        """Returns the prompt of a task: the first that exists of domain with locale, domain,
        generic with locale, generic. A locale `zh-CN` also finds `zh`. Raises `NotFound` if none
        exists."""
        suffixes = [f".{locale}", f".{locale.split('-')[0].lower()}", ""] if locale else [""]
        names = [
            f"{folder}/{task}{suffix}" for folder in (domain, "generic") for suffix in suffixes
        ]
        prompts = self.all()
        found = [prompts[name] for name in names if name in prompts]
        if not found:
            raise NotFound("prompt", names[0], known=", ".join(prompts))
        return found[0]

    def named(self, prompt_id: str, version: str | None = None) -> Prompt:
        """The prompt of an id. Raises `NotFound` for an unknown id, or if the prompt has another
        version than `version`."""
        prompts = self.all()
        if prompt_id not in prompts:
            raise NotFound("prompt", prompt_id, param="prompt_id", known=", ".join(prompts))
        prompt = prompts[prompt_id]
        if version is not None and version != prompt.ref.version:
            raise NotFound(
                "prompt",
                f"{prompt_id} {version}",
                param="prompt_version",
                known=f"version {prompt.ref.version}",
            )
        return prompt

    def all(self) -> Mapping[str, Prompt]:
        """Every prompt by id, as the files are now."""
        stamp = self._modified_at()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._prompts = _load(self._folder, stamp)
            except PromptError as error:
                self._failed(error.message)
        return self._prompts

    def _modified_at(self) -> tuple[tuple[str, int], ...]:
        """(name, time of its last change in ns) of every file. Read at each request, so by
        `os.scandir`: a glob takes three times as long."""
        if not self._folder.is_dir():
            return ()
        folders = [entry.path for entry in os.scandir(self._folder) if entry.is_dir()]
        files = [file for folder in folders for file in os.scandir(folder)]
        return tuple(
            sorted(
                (file.path, file.stat().st_mtime_ns) for file in files if file.name.endswith(".j2")
            )
        )


@lru_cache(maxsize=8)
def _load(folder: Path, stamp: tuple[tuple[str, int], ...]) -> Mapping[str, Prompt]:
    """Returns every prompt of a folder by id. The result is cached by `stamp`, the files' times of
    change, for all services of a process: reading and checking the files takes a tenth of a
    second."""
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        finalize=lambda value: harmless(value) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    prompts = [
        _read_prompt(environment, folder, file) for file in sorted(folder.glob("*/[!_]*.j2"))
    ]
    return {prompt.ref.id: prompt for prompt in prompts}


def _read_prompt(environment: Environment, folder: Path, file: Path) -> Prompt:
    """Reads and checks a prompt's file and returns the prompt. Raises `PromptError` naming the file
    and what is wrong."""
    source = _read_text(file)
    try:
        _, head, body = re.split(r"^---\n", source, maxsplit=2, flags=re.MULTILINE)
        front = FrontMatter.model_validate(yaml.safe_load(head))
    except ValueError as error:
        reason = (
            error.errors()[0]
            if isinstance(error, ValidationError)
            else "expected YAML between two '---' lines"
        )
        raise PromptError(f"{file}: front matter: {reason}") from error
    except yaml.YAMLError as error:
        raise PromptError(f"{file}: front matter: {error}") from error
    expected_id = f"{file.parent.name}/{file.name.removesuffix('.j2')}"
    if front.id != expected_id:
        raise PromptError(f"{file}: its id is {front.id}, its place says {expected_id}")
    sections = re.split(r"^\[(system|user|head|line)\]\n", body, flags=re.MULTILINE)
    parts = dict(zip(sections[1::2], sections[2::2], strict=True))
    first, second = ("head", "line") if "/score" in front.id else ("system", "user")
    if sections[0].strip() or list(parts) != [first, second]:
        raise PromptError(f"{file}: the body needs a [{first}] part and then a [{second}] part")
    try:
        sources = _with_included(environment, folder, body)
        used = set().union(*map(meta.find_undeclared_variables, map(environment.parse, sources)))
        refused = used - set(front.variables) | set(front.variables) - VARIABLES
        if refused:
            raise PromptError(
                f"{file}: undeclared or unknown variables: {', '.join(sorted(refused))}; known: "
                f"{sorted(VARIABLES)}"
            )
        templates = {role: environment.from_string(text) for role, text in parts.items()}
    except TemplateError as error:
        raise PromptError(f"{file}: {error}") from error
    return Prompt(
        PromptRef(
            id=front.id,
            version=front.version,
            sha=hashlib.sha256("".join([source, *sources[1:]]).encode()).hexdigest()[:12],
        ),
        front.sampling,
        templates,
    )


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PromptError(f"{file}: not UTF-8 ({error}): save it in that encoding") from error
    except OSError as error:
        raise PromptError(f"{file}: can't be read: {error.strerror}") from error


def _with_included(environment: Environment, folder: Path, source: str) -> list[str]:
    """The source of a template, then those of the files that it includes."""
    sources = [source]
    for name in meta.find_referenced_templates(environment.parse(source)):
        if name is None:
            raise PromptError("an include needs a fixed name")
        sources += _with_included(environment, folder, _read_text(folder / name))
    return sources


# ── what a template is shown ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Asks:
    """What a person asks for now: in their words, and what of the catalogue these were taken to
    want and not to want."""

    instruction: str | None = None
    wanted: Sequence[str] = ()
    avoided: Sequence[str] = ()


def variables(
    state: UserState,
    candidates: Sequence[Candidate],
    *,
    asks: Asks,
    locale: str | None,
    line_tokens: int,
    answer: str = "order",
) -> dict[str, Any]:
    """Returns the values of a prompt's variables by name; see `VARIABLES`. Title and details of a
    line are together at most `line_tokens` bytes long, and so at most as many tokens."""
    history = [
        {
            "label": f"h{n}",
            **_describe(
                entry.item or Item.model_construct(id="", title=entry.event.text or ""), line_tokens
            ),
            "verb": entry.verb,
            "value": "" if entry.event.value is None else f"{entry.event.value:g}",
        }
        for n, entry in enumerate(state.recent, 1)
    ]
    liked = [
        line["title"] for line, entry in zip(history, state.recent, strict=True) if entry.weight > 0
    ]
    return {
        "history": history,
        "candidates": [
            {"label": letter, **_describe(candidate.item, line_tokens)}
            for letter, candidate in zip(LETTERS, candidates, strict=False)
        ],
        "latest": liked[-1] if liked else "",
        "instruction": cut(asks.instruction or "", 4 * line_tokens),
        "wanted": cut(", ".join(asks.wanted), line_tokens),
        "avoided": cut(", ".join(asks.avoided), line_tokens),
        "person": cut(
            ", ".join(f"{key} {_as_text(value)}" for key, value in state.attributes.items()),
            2 * line_tokens,
        ),
        "locale": locale or "",
        "answer": answer,
    }


def shown_of(item: Item) -> bytes:
    """Returns an item's title, or its text if it has none, in UTF-8: harmless, as a prompt shows
    it, but not cut."""
    return harmless(item.title or item.text).encode()


def _describe(item: Item, size: int) -> dict[str, str]:
    """Title and details of an item, together at most `size` bytes."""
    title = cut(item.title or item.text or "untitled", size * 2 // 3 if item.attributes else size)
    details = cut(", ".join(map(_as_text, item.attributes.values())), size - len(title.encode()))
    return {"title": title, "details": details}


def _as_text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def cut(text: str, size: int) -> str:
    """Makes a text harmless and returns at most `size` bytes of it (in UTF-8), ended by an ellipsis
    if something is missing."""
    clean = harmless(text)
    if len(clean.encode()) <= size:
        return clean
    return clean.encode()[: size - 3].decode(errors="ignore").rstrip() + "…"


_REPLACEMENTS = str.maketrans(
    {
        "<": "(",
        ">": ")",
        "[": "(",
        "]": ")",
        "{": "(",
        "}": ")",
        "|": " ",
        "`": "'",
        '"': "'",
        "\\": " ",
    }
)
_LABEL = re.compile(r"\b([A-Z]|[hH]\d{1,3})\s*[):](?=\s|$)")


@lru_cache(maxsize=16_384)  # the same titles and attributes are shown again and again
def harmless(text: str) -> str:
    """The text on one line, without invisible or control characters, double quotes, brackets, chat
    markers and labels, so that a prompt can quote it."""
    return _LABEL.sub(r"\1", " ".join(visible(text).translate(_REPLACEMENTS).split()))


def visible(text: str) -> str:
    """A text on one line, without characters that can't be seen."""
    chars = [
        " " if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"} else char for char in text
    ]
    return " ".join("".join(chars).split())

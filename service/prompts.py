"""Prompts: Jinja2 files with front matter, found by domain and locale, checked when loaded, hashed,
reloaded when edited.

A file `prompts/{domain}/{task}[.{locale}].j2` begins with YAML between `---` lines (id, version,
variables, sampling); its body has a `[system]` and a `[user]` part, or, for `score`, a `[head]` and
a `[line]` that is repeated for each item. What templates share stands in files that begin with `_`.
An edit that can't be loaded is reported and the last good version stays in use.

Everything that a template prints is made harmless on its way out: quotes, control characters,
brackets, chat markers and anything that looks like a label lose their power, whatever the
template's author forgot.
"""

from __future__ import annotations

import hashlib
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
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import NotFound, PromptError
from service.schema import Candidate, Item, Label, PromptRef, UserState

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PARTS = (["system", "user"], ["head", "line"])
VARIABLES = {
    "history",
    "candidates",
    "latest",
    "instruction",
    "person",
    "locale",
    "answer",
    "title",
    "details",
    "values",
}
"""What a template may name. `history`: lines with `label title details verb value`; `candidates`:
lines with `label title details`, and in explain `common`: what the item shares with the past one
that speaks most for it, `cite`: which past ones may be cited for it, where no grammar tells;
`latest`: title of the newest history item; `instruction`; `person`: declared attributes as text;
`locale`; `answer`: what is expected, `order`, `order as JSON`, `letter`, `scores` or `yes or no`.
The line of a `score` template has one item's `title` and `details`. A `chat` template has an
`instruction` and the catalogue's own `values`."""

FAILURES = (TemplateError, TypeError, ValueError, ArithmeticError, AttributeError, LookupError)
"""What a template may raise on values that its author did not think of."""

Message = dict[str, str]


class Sampling(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(0, ge=0, le=2)


class FrontMatter(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9_-]+/[a-z]+(\.[a-zA-Z-]+)?$")
    version: str = Field(pattern=r"^[A-Za-z0-9._-]{1,32}$", coerce_numbers_to_str=True)
    variables: list[Label]
    sampling: Sampling = Sampling()


@dataclass(frozen=True)
class Prompt:
    """A checked template. `ref.sha`: of its source and of every file it includes, as bytes."""

    ref: PromptRef
    sampling: Sampling
    parts: Mapping[str, Template]

    def render(self, variables: Mapping[str, Any]) -> list[Message]:
        """Chat messages. Raises `PromptError` when the template fails on these values."""
        try:
            return [
                {"role": role, "content": part.render(variables).strip()}
                for role, part in self.parts.items()
            ]
        except FAILURES as error:
            raise PromptError(f"prompt {self.ref.id} {self.ref.version}: {error}") from error

    def document(self, state: UserState, most: int, line_tokens: int) -> tuple[str, dict[int, str]]:
        """Of a `score` template: its head, and a line for each of the last `most` liked items, by
        label (its place in `state.recent`, from 1). Head and lines end in a line break."""
        liked = {
            n: entry.item
            for n, entry in enumerate(state.recent, 1)
            if entry.item is not None and entry.weight > 0
        }
        latest = list(liked.items())[-most:]
        return self._part("head", {}) + "\n", {
            n: self.line(item, line_tokens) + "\n" for n, item in latest
        }

    def line(self, item: Item, line_tokens: int) -> str:
        """An item as a `score` template writes it, without a line break."""
        return self._part("line", _line(item, line_tokens))

    def _part(self, name: str, variables: Mapping[str, str]) -> str:
        try:
            return " ".join(self.parts[name].render(variables).split()) or "untitled"
        except FAILURES as error:
            raise PromptError(f"prompt {self.ref.id} {self.ref.version}: {error}") from error


class PromptLibrary:
    """Raises `PromptError` at once if a file in `folder` is bad; later, `failed(message)` is called
    and the old one stays."""

    def __init__(self, folder: Path, failed: Callable[[str], None] = lambda message: None) -> None:
        self._folder = folder
        self._failed = failed
        self._stamp: tuple[tuple[str, int], ...] = ()
        self._prompts: dict[str, Prompt] = {}
        self._stamp, self._prompts = self._files(), self._load()
        if not self._prompts:
            raise PromptError(f"no prompts in {folder}")

    def find(self, task: str, domain: str, locale: str | None) -> Prompt:
        """domain.locale → domain → generic.locale → generic. A locale `zh-CN` also finds `zh`."""
        locales = [locale, locale.split("-")[0].lower()] if locale else []
        names = [
            f"{place}/{task}{suffix}"
            for place in (domain, "generic")
            for suffix in (*(f".{one}" for one in locales), "")
        ]
        prompts = self.all()
        for name in names:
            if name in prompts:
                return prompts[name]
        raise NotFound("prompt", names[0], known=", ".join(prompts))

    def named(self, prompt_id: str, version: str | None = None) -> Prompt:
        """Raises `NotFound` for an unknown id, or when the prompt has another version than asked
        for."""
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
        stamp = self._files()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._prompts = self._load()
            except PromptError as error:
                self._failed(error.message)
        return self._prompts

    def _files(self) -> tuple[tuple[str, int], ...]:
        return tuple(
            sorted((str(file), file.stat().st_mtime_ns) for file in self._folder.glob("*/*.j2"))
        )

    def _load(self) -> dict[str, Prompt]:
        environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(self._folder),
            undefined=StrictUndefined,
            finalize=lambda value: harmless(value) if isinstance(value, str) else value,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=False,
        )
        files = [
            file for file in sorted(self._folder.glob("*/*.j2")) if not file.name.startswith("_")
        ]
        prompts = [_read(environment, self._folder, file) for file in files]
        return {prompt.ref.id: prompt for prompt in prompts}


def _read(environment: Environment, folder: Path, file: Path) -> Prompt:
    source = _text(file)
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
    if front.id != (expected := f"{file.parent.name}/{file.name.removesuffix('.j2')}"):
        raise PromptError(f"{file}: its id is {front.id}, its place says {expected}")
    sections = re.split(r"^\[(system|user|head|line)\]\n", body, flags=re.MULTILINE)
    parts = dict(zip(sections[1::2], sections[2::2], strict=True))
    wanted = PARTS[front.id.split("/")[1].startswith("score")]
    if sections[0].strip() or list(parts) != wanted:
        raise PromptError(
            f"{file}: the body needs a [{wanted[0]}] part and then a [{wanted[1]}] part"
        )
    digest = hashlib.sha256(source.encode())
    try:
        used = _uses(environment, folder, body, digest.update)
        if stray := used - set(front.variables) | set(front.variables) - VARIABLES:
            raise PromptError(
                f"{file}: undeclared or unknown variables: {', '.join(sorted(stray))}; known: "
                f"{sorted(VARIABLES)}"
            )
        templates = {role: environment.from_string(text) for role, text in parts.items()}
    except TemplateError as error:
        raise PromptError(f"{file}: {error}") from error
    ref = PromptRef(id=front.id, version=front.version, sha=digest.hexdigest()[:12])
    return Prompt(ref, front.sampling, templates)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PromptError(f"{file}: not UTF-8 ({error}): save it in that encoding") from error
    except OSError as error:
        raise PromptError(f"{file}: can't be read: {error.strerror}") from error


def _uses(
    environment: Environment, folder: Path, source: str, include: Callable[[bytes], None]
) -> set[str]:
    """Variables that a template and its includes need; every included source is passed to
    `include`."""
    tree = environment.parse(source)
    needed = set(meta.find_undeclared_variables(tree))
    for name in meta.find_referenced_templates(tree):
        if name is None:
            raise PromptError("an include needs a fixed name")
        text = _text(folder / name)
        include(text.encode())
        needed |= _uses(environment, folder, text, include)
    return needed


# ── what a template is shown ──────────────────────────────────────────────────────────────────────


def variables(
    state: UserState,
    candidates: Sequence[Candidate],
    *,
    instruction: str | None,
    locale: str | None,
    line_tokens: int,
    answer: str = "order",
) -> dict[str, Any]:
    """The values of `VARIABLES`. No line is longer than `line_tokens` bytes, hence tokens, of
    titles and details."""
    history = [
        {
            "label": f"h{n}",
            **_line(
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
            {"label": letter, **_line(candidate.item, line_tokens)}
            for letter, candidate in zip(LETTERS, candidates, strict=False)
        ],
        "latest": liked[-1] if liked else "",
        "instruction": cut(instruction or "", 4 * line_tokens),
        "person": cut(
            ", ".join(f"{key} {_flat(value)}" for key, value in state.attributes.items()),
            2 * line_tokens,
        ),
        "locale": locale or "",
        "answer": answer,
    }


def shown_of(item: Item) -> bytes:
    """What a line would say of an item that there is room for."""
    return harmless(item.title or item.text).encode()


def _line(item: Item, size: int) -> dict[str, str]:
    title = cut(item.title or item.text or "untitled", size * 2 // 3 if item.attributes else size)
    details = cut(
        ", ".join(_flat(value) for value in item.attributes.values()), size - len(title.encode())
    )
    return {"title": title, "details": details}


def _flat(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def cut(text: str, size: int) -> str:
    """At most `size` bytes of harmless text, ended by an ellipsis where something is missing."""
    clean = harmless(text)
    if len(clean.encode()) <= size:
        return clean
    return clean.encode()[: size - 3].decode(errors="ignore").rstrip() + "…"


_POWER = str.maketrans(
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


@lru_cache(maxsize=16_384)  # titles and attributes come again and again
def harmless(text: str) -> str:
    """Text as quoted data: one line, no invisible or control characters, no quotes, brackets or
    chat markers, no labels."""
    visible = "".join(
        " " if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"} else char for char in text
    )
    return _LABEL.sub(r"\1", " ".join(visible.translate(_POWER).split()))

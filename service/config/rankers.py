"""The learned rankers of a domain: a file each, in the order in which they were learned, and which
of them serves."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError, model_validator

from service.config.sections import Section
from service.errors import BadRequest, ConfigError, reasons

NONE = "none"
SERVING = "serving"
"""The name of the file that says which ranker serves."""
CURE = "'whyrank fit --rollback' lets the one before it serve"


class RankerRecord(Section):
    """A learned ranker, and how it was judged. `kind`: `linear`, with a weight of each feature's
    z-score within a list, `trees`, a model of LightGBM in its text form, or `both`. `embedder`: in
    whose space the features were measured. `promoted`: whether it was better than what served
    then; `why`: by which figures. `found`: data, lists and figures."""

    kind: Literal["linear", "trees", "both"]
    embedder: str
    features: tuple[str, ...]
    weights: tuple[float, ...] = ()
    trees: str = ""
    at: str
    promoted: bool
    why: str
    found: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if self.kind != "trees" and len(self.weights) != len(self.features):
            raise ValueError("a linear ranker needs a weight for each feature")
        if self.kind != "linear" and not self.trees:
            raise ValueError("a ranker of trees needs its trees")
        return self


class RankerHistory:
    """The rankers of one domain in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> dict[int, RankerRecord]:
        """By number, the first learned first. Raises `ConfigError` naming a file that can't be
        used."""
        return {number: _read(file) for number, file in self._files().items()}

    @property
    def serving(self) -> int | None:
        """The number of the ranker that serves; None: none does."""
        file = self.folder / SERVING
        text = file.read_text().strip() if file.exists() else NONE
        try:
            return None if text == NONE else int(text)
        except ValueError as error:
            raise ConfigError(
                f"{file}: {text[:40]!r} is no number of a ranker; write one, or {NONE!r}, into it"
            ) from error

    def served(self) -> RankerRecord | None:
        """The ranker that serves. Raises `ConfigError` for a file that is gone or can't be used."""
        number = self.serving
        return None if number is None else _read(self._file(number))

    def add(self, record: RankerRecord) -> int:
        """Keeps a ranker; one that was promoted serves from the next start or reload on. Returns
        its number."""
        number = max(self._files(), default=0) + 1
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self._file(number), record.model_dump_json(indent=2) + "\n")
        if record.promoted:
            _write(self.folder / SERVING, f"{number}\n")
        return number

    def roll_back(self) -> int | None:
        """Lets the promoted ranker before the serving one serve, or none if there is none. Returns
        its number. Raises `BadRequest` if no ranker serves."""
        number = self.serving
        if number is None:
            raise BadRequest("no ranker serves: there is nothing to roll back")
        earlier = [file for file in self._files().items() if file[0] < number]
        before = max((n for n, file in earlier if _read(file).promoted), default=None)
        _write(self.folder / SERVING, f"{before or NONE}\n")
        return before

    def _files(self) -> dict[int, Path]:
        """By number, in ascending order."""
        return {int(file.stem): file for file in sorted(self.folder.glob("[0-9]*.json"))}

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:04}.json"


def histories(folder: Path) -> Mapping[str, RankerHistory]:
    """By domain, of those that have one. `folder`: of all domains."""
    return {path.name: RankerHistory(path) for path in sorted(folder.glob("*")) if path.is_dir()}


def _read(file: Path) -> RankerRecord:
    try:
        return RankerRecord.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file}: can't be read: {error.strerror}; {CURE}") from error
    except ValidationError as error:
        raise ConfigError(f"{file}: no ranker: {reasons(error)}; {CURE}") from error


def _write(file: Path, text: str) -> None:
    """Whole or not at all."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(file)

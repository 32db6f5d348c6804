"""The learned rankers of a domain: a file each, in the order in which they were learned, and which
of them serve."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError, model_validator

from service.config.sections import History, Section
from service.errors import BadRequest, ConfigError, reasons

NONE = "none"
SERVING = "serving"
"""The name of the file that says which rankers serve."""
CURE = "'whyrank fit --rollback' lets the one before it serve"


class RankerRecord(Section):
    """A learned ranker, and how it was judged. `history`: of which people it orders the candidates,
    by how much they have liked. `kind`: `linear`, with a weight of each feature's
    z-score within a list, `trees`, a model of LightGBM in its text form, or `both`. `embedder`: in
    whose space the features were measured. `promoted`: whether it was better than what served
    then; `why`: by which figures. `found`: data, lists and figures."""

    history: History = "many"
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
    def serving(self) -> tuple[int, ...]:
        """The numbers of the rankers that serve, at most one for each kind of history, ascending.
        Raises `ConfigError` if the file that names them can't be used."""
        file = self.folder / SERVING
        text = file.read_text().strip() if file.exists() else NONE
        try:
            return () if text == NONE else tuple(sorted(map(int, text.split())))
        except ValueError as error:
            raise ConfigError(
                f"{file}: {text[:40]!r} are no numbers of rankers; write some, or {NONE!r}, into it"
            ) from error

    def served(self) -> dict[History, RankerRecord]:
        """The rankers that serve, by kind of history. Raises `ConfigError` for a file that is gone
        or can't be used."""
        records = [_read(self._file(number)) for number in self.serving]
        return {record.history: record for record in records}

    def add(self, record: RankerRecord) -> int:
        """Keeps a ranker; one that was promoted serves from the next start or reload on, in the
        place of the one of its kind of history. Returns its number."""
        number = max(self._files(), default=0) + 1
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self._file(number), record.model_dump_json(indent=2) + "\n")
        if record.promoted:
            self._serve([*self._serving_others(record.history), number])
        return number

    def roll_back(self) -> int:
        """Takes the latest of the serving rankers back, for the promoted one of its kind of history
        before it, if there is one. Returns the number that was taken back. Works with files that
        can't be used, as it is their cure. Raises `BadRequest` if no ranker serves."""
        if not self.serving:
            raise BadRequest("no ranker serves: there is nothing to roll back")
        *others, latest = self.serving
        usable = self._usable()
        before = [
            number
            for number, record in usable.items()
            if number < latest
            and record.promoted
            and latest in usable
            and record.history == usable[latest].history
        ]
        self._serve([*others, *before[-1:]])
        return latest

    def _usable(self) -> dict[int, RankerRecord]:
        """By number, those whose files can be used."""
        usable = {}
        for number, file in self._files().items():
            with suppress(ConfigError):
                usable[number] = _read(file)
        return usable

    def _serving_others(self, kind: History) -> list[int]:
        """The numbers of serving rankers for other kinds of history."""
        records = {number: _read(self._file(number)) for number in self.serving}
        return [number for number, record in records.items() if record.history != kind]

    def _serve(self, numbers: Sequence[int]) -> None:
        _write(self.folder / SERVING, " ".join(map(str, sorted(numbers))) or NONE)

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

"""What each training of a matrix factorisation found, beside the items' factors: what it takes to
fold a person in."""

import base64
import json
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.dialects.sqlite import insert

from service.store.database import StoredTable, notes, on_thread

PREFIX = "training."
KEPT = 3
"""How many trainings are kept."""


@dataclass(frozen=True, eq=False)
class Training:
    """`version`: later ones compare greater. `gram`: Σ y yᵀ over the item factors, [f, f].
    `events`: the length of the log then. `items`: how many have factors. `made_with`: a fingerprint
    of the settings."""

    version: str
    trained_at: datetime
    gram: npt.NDArray[np.float64]
    alpha: float
    regularization: float
    events: int
    items: int
    made_with: str


class Trainings(StoredTable):
    """A training is written before the factors that carry its version, and the last few are kept:
    whoever has read factors can read their training too, whatever another process is training
    meanwhile."""

    _last: Training | None = None

    @on_thread
    def add(self, training: Training) -> None:
        """Durable on return."""
        fields = {
            **asdict(training),
            "trained_at": training.trained_at.isoformat(),
            "gram": base64.b64encode(training.gram.astype("<f8").tobytes()).decode(),
        }
        self._write(insert(notes).values(key=PREFIX + training.version, value=json.dumps(fields)))

    async def get(self, version: str) -> Training | None:
        """The training of a version; None if it is no longer kept. A version never changes, so the
        last one read is remembered."""
        if self._last is None or self._last.version != version:
            self._last = await self._latest_of(notes.c.key == PREFIX + version)
        return self._last

    async def latest(self) -> Training | None:
        return await self._latest_of(notes.c.key.startswith(PREFIX))

    @on_thread
    def _latest_of(self, which: ColumnElement[bool]) -> Training | None:
        query = select(notes.c.value).where(which).order_by(notes.c.key.desc()).limit(1)
        value: str | None = self._value(query)
        return None if value is None else _from_json(value)

    @on_thread
    def forget_old(self) -> None:
        """Delete all but the last `KEPT`. Call it once the latest one's factors are written."""
        is_training = notes.c.key.startswith(PREFIX)
        last = select(notes.c.key).where(is_training).order_by(notes.c.key.desc()).limit(KEPT)
        self._write(delete(notes).where(is_training, notes.c.key.not_in(last)))


def _from_json(value: str) -> Training:
    fields = json.loads(value)
    flat = np.frombuffer(base64.b64decode(fields.pop("gram")), dtype="<f8")
    size = round(len(flat) ** 0.5)
    trained_at = datetime.fromisoformat(fields.pop("trained_at"))
    return Training(**fields, trained_at=trained_at, gram=flat.reshape(size, size))

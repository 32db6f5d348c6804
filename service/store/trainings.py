"""What each training of a matrix factorisation found, except the items' factors: what is needed to
compute the factors of a person from those of the items."""

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
    """The result of a training, except the items' factors. `version`: greater for later trainings.
    `gram`: Σ y yᵀ over the item factors, [f, f]. `events`: the length of the log when it was
    trained. `items`: how many items have factors. `made_with`: a fingerprint of the settings."""

    version: str
    trained_at: datetime
    gram: npt.NDArray[np.float64]
    alpha: float
    regularization: float
    events: int
    items: int
    made_with: str


class Trainings(StoredTable):
    """Stores the last trainings. A training is stored before the item factors of its version, and
    the last `KEPT` trainings stay: a process that has read factors can still read their training
    while another process trains."""

    _last: Training | None = None

    @on_thread
    def add(self, training: Training) -> None:
        """Stores a training. Durable on return."""
        fields = {
            **asdict(training),
            "trained_at": training.trained_at.isoformat(),
            "gram": base64.b64encode(training.gram.astype("<f8").tobytes()).decode(),
        }
        self._write(insert(notes).values(key=PREFIX + training.version, value=json.dumps(fields)))

    async def get(self, version: str) -> Training | None:
        """Returns the training of a version; None if it is no longer stored. The last training read
        is cached, as a version never changes."""
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
        """Deletes all but the last `KEPT` trainings. To be called once the factors of the latest
        training are stored."""
        is_training = notes.c.key.startswith(PREFIX)
        last = select(notes.c.key).where(is_training).order_by(notes.c.key.desc()).limit(KEPT)
        self._write(delete(notes).where(is_training, notes.c.key.not_in(last)))


def _from_json(value: str) -> Training:
    fields = json.loads(value)
    flat = np.frombuffer(base64.b64decode(fields.pop("gram")), dtype="<f8")
    size = round(len(flat) ** 0.5)
    trained_at = datetime.fromisoformat(fields.pop("trained_at"))
    return Training(**fields, trained_at=trained_at, gram=flat.reshape(size, size))

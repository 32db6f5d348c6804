"""What a shadow model would have shown, beside what was shown."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Engine,
    Index,
    Integer,
    Select,
    Table,
    Text,
    UniqueConstraint,
    select,
)
from sqlalchemy.dialects.sqlite import insert

from service.schema import Ranking
from service.store.database import metadata, micros, moment, writing
from service.store.rankings import rankings

shadows = Table(
    "shadows",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("ranking_id", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("ranking", JSON, nullable=False),
    UniqueConstraint("ranking_id", "alias"),
    Index("shadows_of", "who"),
)


@dataclass(frozen=True)
class Shadowed:
    """A ranking that `who` (a log key) was shown, and what the model `alias` made of the same.
    `seq`: its place among all."""

    seq: int
    who: str
    alias: str
    domain: str
    shown_at: datetime
    shown: Ranking
    shadow: Ranking


class Shadows:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def log(self, ranking: Ranking, *, who: str, alias: str, at: datetime) -> bool:
        """Keep what would have been shown in the place of the ranking of the same id. False, and
        nothing is kept, if that is gone: whoever it was shown to has been forgotten since."""
        return await asyncio.to_thread(self._log, ranking, who, alias, micros(at))

    def _log(self, ranking: Ranking, who: str, alias: str, at: int) -> bool:
        told = ranking.model_dump(mode="json")
        row = insert(shadows).values(
            ranking_id=ranking.ranking_id, who=who, alias=alias, at=at, ranking=told
        )
        with writing(self._engine) as connection:
            known = (
                connection.scalar(
                    select(rankings.c.who).where(rankings.c.ranking_id == ranking.ranking_id)
                )
                == who
            )
            if known:
                connection.execute(row.on_conflict_do_nothing())
        return known

    async def page(
        self, after: int, limit: int, since: datetime | None = None, *, who: str | None = None
    ) -> list[Shadowed]:
        """The first after a place, as they were made; `since`: of rankings shown from then on;
        `who`: to one person."""
        query = select(
            shadows, rankings.c.domain, rankings.c.shown_at, rankings.c.ranking.label("shown")
        )
        query = query.join(rankings, rankings.c.ranking_id == shadows.c.ranking_id).where(
            shadows.c.seq > after
        )
        if since is not None:
            query = query.where(rankings.c.shown_at >= micros(since))
        if who is not None:
            query = query.where(shadows.c.who == who)
        return await asyncio.to_thread(self._page, query.order_by(shadows.c.seq).limit(limit))

    def _page(self, query: Select[Any]) -> list[Shadowed]:
        with self._engine.connect() as connection:
            return [_shadowed(row) for row in connection.execute(query)]


def _shadowed(row: Any) -> Shadowed:
    return Shadowed(
        seq=row.seq,
        who=row.who,
        alias=row.alias,
        domain=row.domain,
        shown_at=moment(row.shown_at),
        shown=Ranking.model_validate(row.shown),
        shadow=Ranking.model_validate(row.ranking),
    )

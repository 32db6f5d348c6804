"""The rankings that were shown, each under its id, by which clicks name it."""

import asyncio
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
    literal,
    select,
    tuple_,
)
from sqlalchemy.dialects.sqlite import insert

from service.schema import LoggedRanking, Ranking
from service.store.database import metadata, micros, moment, writing

rankings = Table(
    "rankings",
    metadata,
    Column("ranking_id", Text, primary_key=True),
    Column("who", Text),
    Column("shown_at", BigInteger, nullable=False),
    Column("domain", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("model", Text),
    Column("state_version", Integer, nullable=False),
    Column("ranking", JSON, nullable=False),
    Index("rankings_of", "who", "shown_at"),
)


class Rankings:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def log(self, ranking: Ranking, *, who: str | None, domain: str, shown_at: int) -> None:
        """Keep a ranking. `shown_at`: microseconds since 1970."""
        await asyncio.to_thread(self._log, ranking, who, domain, shown_at)

    def _log(self, ranking: Ranking, who: str | None, domain: str, shown_at: int) -> None:
        row = insert(rankings).values(
            ranking_id=ranking.ranking_id,
            who=who,
            shown_at=shown_at,
            domain=domain,
            strategy=ranking.strategy,
            model=ranking.model,
            state_version=ranking.state_version,
            ranking=ranking.model_dump(mode="json"),
        )
        with writing(self._engine) as connection:
            connection.execute(row)

    async def get(self, ranking_id: str) -> Ranking | None:
        return await asyncio.to_thread(self._get, ranking_id)

    def _get(self, ranking_id: str) -> Ranking | None:
        with self._engine.connect() as connection:
            fields = connection.scalar(
                select(rankings.c.ranking).where(rankings.c.ranking_id == ranking_id)
            )
        return None if fields is None else Ranking.model_validate(fields)

    async def page(self, who: str, after: LoggedRanking | None, limit: int) -> list[LoggedRanking]:
        """The first `limit` rankings that a person was shown after another, the earliest first."""
        order = rankings.c.shown_at, rankings.c.ranking_id
        query = select(rankings).where(rankings.c.who == who).order_by(*order).limit(limit)
        if after is not None:
            last = literal(micros(after.shown_at)), literal(after.ranking.ranking_id)
            query = query.where(tuple_(*order) > tuple_(*last))
        return await asyncio.to_thread(self._page, query)

    def _page(self, query: Select[Any]) -> list[LoggedRanking]:
        with self._engine.connect() as connection:
            return [_shown(row) for row in connection.execute(query)]


def _shown(row: Any) -> LoggedRanking:
    return LoggedRanking(
        shown_at=moment(row.shown_at),
        domain=row.domain,
        ranking=Ranking.model_validate(row.ranking),
    )

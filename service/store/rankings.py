"""The rankings that were shown, each under its id, by which clicks name it."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    Table,
    Text,
    literal,
    select,
    tuple_,
)
from sqlalchemy.dialects.sqlite import insert

from service.schema import LoggedRanking, Ranking
from service.store.database import StoredTable, metadata, micros, moment, on_thread, writing

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


class Rankings(StoredTable):
    @on_thread
    def log(self, ranking: Ranking, *, who: str | None, domain: str, shown_at: int) -> None:
        """Keep a ranking. `shown_at`: microseconds since 1970."""
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

    @on_thread
    def get(self, ranking_id: str) -> Ranking | None:
        query = select(rankings.c.ranking).where(rankings.c.ranking_id == ranking_id)
        fields = self._value(query)
        return None if fields is None else Ranking.model_validate(fields)

    @on_thread
    def page(self, who: str, after: LoggedRanking | None, limit: int) -> list[LoggedRanking]:
        """The first `limit` rankings that a person was shown after another, the earliest first."""
        order = rankings.c.shown_at, rankings.c.ranking_id
        query = select(rankings).where(rankings.c.who == who).order_by(*order).limit(limit)
        if after is not None:
            last = literal(micros(after.shown_at)), literal(after.ranking.ranking_id)
            query = query.where(tuple_(*order) > tuple_(*last))
        return [
            LoggedRanking(
                shown_at=moment(row.shown_at),
                domain=row.domain,
                ranking=Ranking.model_validate(row.ranking),
            )
            for row in self._rows(query)
        ]

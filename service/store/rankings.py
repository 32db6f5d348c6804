"""The rankings that were shown, each stored under the id that clicks name, and the rankings that
shadow models made of the same candidates."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    literal,
    select,
    tuple_,
)
from sqlalchemy.dialects.sqlite import insert

from service.schema import LoggedRanking, Ranking
from service.store.database import (
    StoredTable,
    matching,
    metadata,
    micros,
    moment,
    on_thread,
    writing,
)

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
    """A ranking that `who` (a log key) was shown, and the one that the model `alias` made of the
    same candidates. `seq`: the place of the pair in the order in which pairs were stored."""

    seq: int
    who: str
    alias: str
    domain: str
    shown_at: datetime
    shown: Ranking
    shadow: Ranking


class Rankings(StoredTable):
    @on_thread
    def log(self, ranking: Ranking, *, who: str | None, domain: str, shown_at: int) -> None:
        """Stores a ranking that was shown. `shown_at`: microseconds since 1970."""
        self._write(
            insert(rankings).values(
                ranking_id=ranking.ranking_id,
                who=who,
                shown_at=shown_at,
                domain=domain,
                strategy=ranking.strategy,
                model=ranking.model,
                state_version=ranking.state_version,
                ranking=ranking.model_dump(mode="json"),
            )
        )

    @on_thread
    def get(self, ranking_id: str) -> Ranking | None:
        fields = self._value(select(rankings.c.ranking).where(rankings.c.ranking_id == ranking_id))
        return None if fields is None else Ranking.model_validate(fields)

    @on_thread
    def page(self, who: str, after: LoggedRanking | None, limit: int) -> list[LoggedRanking]:
        """Returns the first `limit` rankings that a person was shown after the ranking `after`
        (None: from the start), the earliest first."""
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


class Shadows(StoredTable):
    @on_thread
    def log(self, ranking: Ranking, *, who: str, alias: str, at: datetime) -> bool:
        """Stores a shadow model's ranking beside the shown one of the same id, and returns True.
        Stores nothing and returns False if the shown one is gone, because its user was
        forgotten."""
        row = insert(shadows).values(
            ranking_id=ranking.ranking_id,
            who=who,
            alias=alias,
            at=micros(at),
            ranking=ranking.model_dump(mode="json"),
        )
        shown_to = select(rankings.c.who).where(rankings.c.ranking_id == ranking.ranking_id)
        with writing(self._engine) as connection:
            is_known = connection.scalar(shown_to) == who
            if is_known:
                connection.execute(row.on_conflict_do_nothing())
        return is_known

    @on_thread
    def page(
        self, after: int, limit: int, since: datetime | None = None, *, who: str | None = None
    ) -> list[Shadowed]:
        """Returns the first `limit` shadow rankings whose `seq` is greater than `after`, in the
        order in which they were stored. `since`: only those of rankings shown from then on. `who`
        (a log key): only those of rankings shown to this person."""
        shown = rankings.c.domain, rankings.c.shown_at, rankings.c.ranking.label("shown")
        query = (
            select(shadows, *shown)
            .join(rankings, rankings.c.ranking_id == shadows.c.ranking_id)
            .where(shadows.c.seq > after, *matching((shadows.c.who, who)))
        )
        if since is not None:
            query = query.where(rankings.c.shown_at >= micros(since))
        return [
            Shadowed(
                seq=row.seq,
                who=row.who,
                alias=row.alias,
                domain=row.domain,
                shown_at=moment(row.shown_at),
                shown=Ranking.model_validate(row.shown),
                shadow=Ranking.model_validate(row.ranking),
            )
            for row in self._rows(query.order_by(shadows.c.seq).limit(limit))
        ]

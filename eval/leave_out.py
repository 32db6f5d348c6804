"""Does an item fall when the evidence that its reason cites is left out?"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

from service.build import Service
from service.schema import Document, InlineEvent, RerankRequest

DRAWS = 5
"""How many draws of other likes a reason's evidence is compared with."""


@dataclass(frozen=True)
class LeaveOut:
    """Scores the same items for the same likes, of which some are left out. `likes`: item ids,
    oldest first; `candidates`: ids of the items to score, each once. It asks without a user, so
    that only these likes count."""

    service: Service
    likes: Sequence[str]
    candidates: Sequence[str]
    _scored: dict[frozenset[str], dict[str, float]] = field(default_factory=dict, init=False)

    async def mattered(self, item_id: str, cited: Collection[str], dice: Random) -> bool | None:
        """Whether the item falls more without the cited likes than without as many others, by the
        mean of up to `DRAWS` draws. None if none is cited, or if there are too few others."""
        evidence = frozenset(cited) & {*self.likes}
        others = [like for like in self.likes if like not in evidence]
        if not evidence or len(others) < len(evidence):
            return None
        draws = {frozenset(dice.sample(others, len(evidence))) for _ in range(DRAWS)}
        without = (await self._scores(evidence))[item_id]
        random = [(await self._scores(draw))[item_id] for draw in sorted(draws, key=sorted)]
        return without < float(np.mean(random))

    async def _scores(self, left_out: frozenset[str]) -> dict[str, float]:
        """The candidates' priors without some likes, as z-scores within the list: where an item
        stands, whatever the scale."""
        if left_out not in self._scored:
            request = RerankRequest(
                documents=[Document(id=candidate) for candidate in self.candidates],
                history=[InlineEvent(item_id=like) for like in self.likes if like not in left_out],
                strategy="prior",
            )
            rows = (await self.service.recommender.rerank(request)).ranking.items
            priors = np.array([float(row.signals["prior"]) for row in rows])
            scores = (priors - priors.mean()) / (priors.std() or 1.0)
            ids = [row.item_id for row in rows]
            self._scored[left_out] = dict(zip(ids, scores.tolist(), strict=True))
        return self._scored[left_out]

"""`POST /v1/recommendations`."""

from __future__ import annotations

from fastapi import APIRouter

from service.api.needs import RecommenderDep
from service.schema import Ranking, RecommendRequest

router = APIRouter(prefix="/v1", tags=["recommend"])


@router.post("/recommendations", summary="Rank for one person, and say why")
async def recommendations(request: RecommendRequest, recommender: RecommenderDep) -> Ranking:
    """Retrieves candidates (or takes yours), ranks them for this person as they are now, and justifies the best.

    Always a complete ranking within `deadline_ms`: if the model can't answer in time, the prior does, and `degraded` says so.
    """
    return await recommender.recommend(request)

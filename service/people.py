"""Reads the person that a request is for: their current state, and what each model may see of
it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from service import state
from service.catalog import Catalog
from service.config import Settings
from service.errors import ModelError
from service.plan import Plan
from service.privacy import Privacy, Views, possible_ids
from service.schema import Event, InlineEvent, Interest, RecommendRequest, UserState
from service.store import Store

INLINE = "inline"
"""The user id of events that a request brings along. They are not stored in the log."""


class People:
    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        catalog: Catalog,
        privacy: Privacy,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._store = store
        self._catalog = catalog
        self._privacy = privacy
        self._clock = clock

    async def read(
        self, plan: Plan, history: Sequence[InlineEvent] = ()
    ) -> tuple[UserState, Views]:
        """Returns the person's state, which includes every event accepted so far, and what each
        model may see of it. `history`: events that the request brings along.

        A person without events is described by their declared attributes, else by the instruction.
        """
        request, sizes = plan.request, self._settings.rank
        now = self._clock()
        inline = [
            Event(user_id=INLINE, item_id=event.item_id, type=event.type, occurred_at=now)
            for event in history
        ]
        person = await state.read(
            self._store,
            self._catalog,
            plan.meanings,
            state.Requester(request.user_id, request.session_id, inline),
            window=(sizes.recent_min, sizes.recent_max),
            now=now,
        )
        views = await self.views(request, person)
        if person.source != "popularity":
            return person, views
        described = self._described(person, views)
        if described:
            with suppress(ModelError):  # the embedder's
                vector = await self._catalog.embedder.embed_one(described)
                interest = Interest(vector=tuple(vector.tolist()), weight=1)
                return person.model_copy(
                    update={"source": "attributes", "interests": (interest,)}
                ), views
        if request.instruction:
            person = person.model_copy(update={"source": "instruction"})
        return person, views

    async def views(self, request: RecommendRequest, person: UserState) -> Views:
        ids: list[str | None] = []
        if self._privacy.outside:
            said = [request.instruction, *(entry.event.text for entry in person.recent)]
            known = await self._catalog.get(possible_ids(text or "" for text in said))
            ids = [request.user_id, request.session_id, *known]
        return self._privacy.views(allowed=person.allow_hosted, names=request.redact, ids=ids)

    def _described(self, person: UserState, views: Views) -> str:
        """Returns a person's declared attributes as a text for the embedder; an empty text if the
        embedder may not see them."""
        view = views.embedder
        if not view.allowed:
            return ""
        shown, _, _ = view.shown(person, [], None)
        return view.form(", ".join(f"{key} {value}" for key, value in shown.attributes.items()))

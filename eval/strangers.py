"""People as a service first meets them: the log that the sources learn from holds nothing of them,
then the events on the last things that they liked come in."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, takewhile
from typing import Any

from eval.cases import Case, Data
from service.schema import Event


@dataclass(frozen=True)
class Strangers:
    """The people of the cases in `data`, as strangers. `data`: a case folder, with the cases of
    these people alone."""

    data: Data

    @cached_property
    def others(self) -> Data:
        """The same folder without the strangers' events."""
        strangers = {case.user_id for case in self.data.cases}
        events = [event for event in self.data.events if event.user_id not in strangers]
        return replace(self.data, events=events)

    @cached_property
    def cases(self) -> Sequence[Case]:
        """The strangers' cases. Each excludes its whole history, so that the same items are ordered
        however much of the history is known."""
        return [
            case.model_copy(update={"exclude": [*case.exclude, *case.history]})
            for case in self.data.cases
        ]

    def events(self, count: int) -> list[dict[str, Any]]:
        """Returns the strangers' events on the last `count` items that each of them liked."""
        return [
            event.model_dump(mode="python")
            for case in self.data.cases
            for event in self._known(case, count)
        ]

    def _known(self, case: Case, count: int) -> Sequence[Event]:
        liked = frozenset(case.history[-count:] if count else ())
        events = self.data.events  # in order of person
        first = bisect_left(events, case.user_id, key=lambda event: event.user_id or "")
        own = takewhile(lambda event: event.user_id == case.user_id, islice(events, first, None))
        return [event for event in own if event.item_id in liked]

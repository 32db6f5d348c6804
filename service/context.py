"""The context of model calls: who pays for them, and what they used. It is always passed as an
argument, never kept in a global."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.schema import ApiKey, Usage


@dataclass
class Exchange:
    """One call of a model. `messages`: what the model was sent; `answer`: what it answered, as far
    as the answer came."""

    alias: str
    messages: list[dict[str, str]]
    answer: str = ""


@dataclass
class CallContext:
    """Records what the model calls of one request used.

    `payer`: the API key whose budget the calls count against; None: no key's. `usages`: the usage
    of each call so far, including failed and broken-off calls. `exchanges`: a list to which each
    call's messages and answer are added; None: they are not kept. `whole`: the context of which
    this context is a part.
    """

    payer: ApiKey | None = None
    usages: list[Usage] = field(default_factory=list)
    exchanges: list[Exchange] | None = None
    whole: CallContext | None = None

    def part(self) -> CallContext:
        """Returns a context for a part of the work. Its usage also counts in this context."""
        return CallContext(self.payer, exchanges=self.exchanges, whole=self)

    def charge(self, usage: Usage) -> None:
        """Adds a call's usage to this context and to all contexts of which it is a part."""
        self.usages.append(usage)
        if self.whole is not None:
            self.whole.charge(usage)

    @property
    def usage(self) -> Usage:
        """The summed usage of all calls."""
        return sum(self.usages, Usage())

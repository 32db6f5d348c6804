"""On whose behalf models are asked: an argument from the face down to the model, never a global."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.schema import ApiKey, Usage


@dataclass
class Exchange:
    """One call of a model: the messages it was sent and, as far as it came, what it answered."""

    alias: str
    messages: list[dict[str, str]]
    answer: str = ""


@dataclass
class CallContext:
    """One request's account with the models.

    `payer`: the key whose budget calls count against; None: nobody's. `usages`: what each call took
    so far, failed and broken-off ones included. `exchanges`: gets every call's prompt and answer;
    None: nobody listens. `whole`: the context that this one is a part of.
    """

    payer: ApiKey | None = None
    usages: list[Usage] = field(default_factory=list)
    exchanges: list[Exchange] | None = None
    whole: CallContext | None = None

    def part(self) -> CallContext:
        """A context for a part of the work: its usage counts here too."""
        return CallContext(self.payer, exchanges=self.exchanges, whole=self)

    def charge(self, usage: Usage) -> None:
        """Count what a call took, here and in all that this is a part of."""
        self.usages.append(usage)
        if self.whole is not None:
            self.whole.charge(usage)

    @property
    def usage(self) -> Usage:
        """The sum of all calls."""
        return sum(self.usages, Usage())

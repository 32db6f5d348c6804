"""What is said once of each strategy, in its own file: everything else is derived from it."""

from collections.abc import Callable
from dataclasses import dataclass

from service.llm import LLM, OutputConstraint
from service.rank import Strategy
from service.schema import Capabilities


@dataclass(frozen=True)
class StrategySpec:
    """`needs`: can a model with these capabilities do it? `fast`: may `whyrank-fast` be answered by
    it? `answer`: the form of answer that its prompt asks for; empty where it asks for none.
    `make(llm, weight, constraint)`: None for a strategy that only needs likelihoods."""

    name: str
    needs: Callable[[Capabilities], bool]
    answer: str = ""
    fast: bool = False
    make: Callable[[LLM, float, OutputConstraint], Strategy] | None = None

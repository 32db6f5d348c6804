"""What a request asks for beside a person's taste: filters, and wishes in words as they were
understood."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from service.schema.records import Id, Key, Scalar, Text, Value

Values = Annotated[list[Scalar], Field(min_length=1, max_length=1_000)]
MOST = 50
"""How many things one wish may name of a kind."""
Word = Annotated[Text, StringConstraints(max_length=200)]


class Filter(Value):
    """Conditions on one declared key; all that are given must hold."""

    gt: Scalar | None = None
    """Greater than."""
    gte: Scalar | None = None
    """At least."""
    lt: Scalar | None = None
    """Less than."""
    lte: Scalar | None = None
    """At most."""
    any: Values | None = None
    """One of these, in any case; of a list, one of its elements."""
    all: Values | None = None
    """All of these, in any case, among the elements of a list."""
    none: Values | None = None
    """None of these, in any case; of a list, none of its elements."""


class Understood(Value):
    """What an instruction was understood to ask for. A client may show it, correct it, and send it
    back with the next request."""

    wanted: Annotated[list[Word], Field(max_length=MOST)] = []
    """Values of the catalogue that are asked for."""
    avoided: Annotated[list[Word], Field(max_length=MOST)] = []
    """Values of the catalogue that are not to be, and other words that nothing may hold."""
    filters: dict[Key, Filter] = {}
    """What every item must meet."""
    soft: dict[Key, Filter] = {}
    """What moves the items that meet it up."""
    like: Annotated[list[Id], Field(max_length=MOST)] = []
    """Ids of the items that others shall be like."""
    source: Literal["rules", "model", "request"] = "rules"
    """What read it: the service's rules, a model beside them, or nobody, as the request says it."""
    relaxed: list[str] = []
    """The keys of filters that nothing met, and so were given up."""


class Wish(Understood):
    """What an instruction asks for, with what only the service uses.

    `text`: what is left of the instruction without what it does not want. `sought`: the same if it
    says anything beyond what the filters do: what is searched for in the catalogue. `named`: by
    value, the person's own words that name it. `words`: for each avoided thing, its spellings in
    running text. `than`: keys of numbers that shall be less or more than those of what was shown.
    `different`: whether something other than usual is wanted; `question`: whether it asks for
    knowledge, as "how to …" does; `wordy`: whether it says more than what it names needs;
    `content`: its words that are no fillers and not refused. `rest`: the words that no rule
    accounts for.
    """

    text: str = ""
    sought: str = ""
    named: dict[str, str] = {}
    words: dict[str, tuple[str, ...]] = {}
    than: dict[str, Literal["less", "more"]] = {}
    different: bool = False
    question: bool = False
    wordy: bool = False
    content: str = ""
    rest: str = ""

    @property
    def nameless(self) -> dict[str, tuple[str, ...]]:
        """Of `words`, those that no filter refuses: the catalogue has no value for them."""
        filtered = {value for one in self.filters.values() for value in one.none or ()}
        return {name: forms for name, forms in self.words.items() if name not in filtered}

    def public(self) -> Understood:
        """The part that an answer shows."""
        return Understood.model_construct(
            **{name: getattr(self, name) for name in Understood.model_fields}
        )


NO_WISH = Wish()
"""What a request without words asks for."""

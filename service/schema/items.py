"""Items, and the people they are ranked for."""

from typing import Annotated

from pydantic import ConfigDict, StringConstraints

from service.schema.values import AttributesIn, Fact, Id, Locale, Moment, Text, Value


class Item(Value):
    """Something that can be shown: a film, a product, a song, a person."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "181",
                    "title": "Return of the Jedi",
                    "attributes": {"year": 1983, "genre": ["Action", "Sci-Fi"]},
                }
            ]
        }
    )

    id: Id
    """The caller's own."""
    title: Annotated[Text, StringConstraints(max_length=4_000)] = ""
    """What people call it."""
    text: Annotated[Text, StringConstraints(max_length=100_000)] = ""
    """More words about it: searched, and shown to a model."""
    attributes: AttributesIn = {}
    """What is known of it, by name. Filters go by those in `catalog.filterable`."""
    url: Annotated[Text, StringConstraints(max_length=4_000)] | None = None
    """Where it is; kept and given back."""
    image_url: Annotated[Text, StringConstraints(max_length=4_000)] | None = None
    """A picture of it; kept and given back."""
    published_at: Moment | None = None
    """When it appeared: a time with a zone, or epoch milliseconds."""
    available: bool = True
    """False: kept, and never shown."""

    def facts(self) -> list[Fact]:
        """(key, value) of every attribute; a list gives one pair per element."""
        return [
            (key, element)
            for key, value in self.attributes.items()
            for element in (value if isinstance(value, list) else [value])
        ]


class User(Value):
    """What a person declared."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "127", "attributes": {"age": 33, "likes": ["Sci-Fi"]}, "locale": "en"}
            ]
        }
    )

    user_id: Id
    """The caller's own."""
    attributes: AttributesIn = {}
    """What they declared, by name; before their first event it stands for their taste."""
    locale: Locale | None = None
    """Language of what they read, as `de` or `pt-BR`; null: the prompts' own."""
    allow_hosted: bool = True
    """May a hosted model see them?"""
    profile: bool = True
    """May a model write a profile of them?"""


class UserPatch(Value):
    """Only the fields that are given change."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"locale": "de", "allow_hosted": False}]}
    )

    attributes: AttributesIn | None = None
    """Replaces the whole dictionary."""
    locale: Locale | None = None
    """As `de` or `pt-BR`; null takes it away."""
    allow_hosted: bool | None = None
    """May a hosted model see them?"""
    profile: bool | None = None
    """May a model write a profile of them?"""

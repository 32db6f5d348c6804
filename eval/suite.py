"""A suite: data × prompts × models × strategies × settings, as a YAML file; its arms, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from eval.metrics import RELEVANCE, metric
from service.config import SOURCES, Settings
from service.errors import BadRequest, reasons
from service.schema import Label, Locale, RecommendRequest

WEIGHED = {*SOURCES, "weight", "null", "popularity", "diversity"}
STANDALONE = tuple(name for name in SOURCES if name not in {"context", "query"})
"""Sources that find something without an instruction or an item to start from."""
TUNABLE = {"retrieve", "rank", "explain", "models", "locale"}
"""Settings that a suite may vary: everything else would change the data that its arms share."""


class Suite(BaseModel):
    """`title`, `about`: head the report. `data`: case folders, relative to the suite's file;
    `domain`: whose prompts and event meanings they take, if not the configuration's. `baseline`:
    the arm that others are compared with; `beside`: one more, as `prior equal`.

    `strategies`: each for every one of `models`, or as `strategy:model`; `cases`: at most so many
    of a strategy or a `strategy:model`. `prompts`: ids in `prompt_folder` (default: the product's
    own); none: the domain's. `settings`: by name, changes to the configuration, and `locale`;
    fitted weights stand back where one changes a weight. `priors`: the same, to measure the prior
    alone with. `sources`: also measure each source of candidates that can stand alone. `probes`: so
    many cases of each arm are asked again with the candidates reversed, and for somebody else.
    `explain`: `short` also measures reasons, at their cost.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = ""
    about: str = ""
    data: list[Path] = Field(min_length=1)
    domain: Label | None = None
    prompts: list[str] = []
    prompt_folder: Path | None = None
    models: list[str] = []
    strategies: list[str] = Field(["listwise"], min_length=1)
    settings: dict[str, dict[str, Any]] = {"": {}}
    priors: dict[str, dict[str, Any]] = {}
    cases: dict[str, int] = {}
    baseline: str = "prior"
    beside: str | None = None
    sources: bool = False
    metrics: list[str] = Field(
        min_length=1, default=["nDCG@10", "recall@10", "MRR@10", "HR@10", "novelty@10", "ILD@10"]
    )
    explain: Literal["none", "short"] = "none"
    repeats: int = Field(1, ge=1, le=100)
    probes: int = Field(20, ge=0)
    seed: int = 0

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, names: list[str]) -> list[str]:
        try:
            metrics = [metric(name) for name in names]
        except BadRequest as error:
            raise ValueError(error.message) from error
        if metrics[0].name not in RELEVANCE:
            raise ValueError(
                f"the first one decides and must be of relevance: {', '.join(RELEVANCE)}"
            )
        return list(map(str, metrics))

    @field_validator("data")
    @classmethod
    def _distinct(cls, folders: list[Path]) -> list[Path]:
        if len({folder.name for folder in folders}) < len(folders):
            raise ValueError("folders are told apart by their last name: no two may share it")
        return folders

    @field_validator("settings", "priors")
    @classmethod
    def _tunable(cls, settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, parts in settings.items():
            for key, section in parts.items():
                if key != "locale" and not isinstance(section, dict):
                    raise ValueError(f"{name}: {key} holds keys and values")
            stray = set(parts) - TUNABLE
            if stray:
                raise ValueError(
                    f"{name}: {', '.join(sorted(stray))} can't vary in a suite; "
                    f"{', '.join(sorted(TUNABLE))} can"
                )
        return settings

    @classmethod
    def read(cls, file: Path) -> Suite:
        """Reads a suite from a YAML file. Raises `BadRequest` naming file, key and reason."""
        try:
            content = yaml.safe_load(file.read_text())
            suite = cls.model_validate(content)
        except OSError as error:
            raise BadRequest(f"{file}: can't be read: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise BadRequest(f"{file}: not YAML: {error}") from error
        except ValidationError as error:
            raise BadRequest(f"{file}: {reasons(error)}") from error
        here = file.parent
        folder = here / suite.prompt_folder if suite.prompt_folder else None
        return suite.model_copy(
            update={
                "data": [(here / path).resolve() for path in suite.data],
                "prompt_folder": folder,
            }
        )

    def arms(self, settings: Settings) -> list[Arm]:
        """Returns the suite's arms, every combination once; `prior` and the sources need neither
        prompt nor model. Baselines come first. Raises `BadRequest` for an invalid locale."""
        models = self.models or [*filter(None, [settings.roles.rank])]
        pairs = [pair for pair in self._pairs(models) if pair[0] != "prior"]
        prompts: list[str | None] = [*self.prompts] or [None]
        arms: list[Arm] = []
        for (label, parts), folder in product(self.settings.items(), self.data):
            changes = {key: value for key, value in parts.items() if key != "locale"}
            apart = [label] if label else []
            apart += [folder.name] if len(self.data) > 1 else []
            shared = {"suffix": " ".join(apart), "data": folder, "locale": parts.get("locale")}
            arms += self._priors(label, changes, shared)
            for (strategy, model), prompt in product(pairs, prompts):
                arms.append(
                    _arm(
                        [strategy, model, *([prompt] if prompt else [])],
                        **shared,
                        strategy=strategy,
                        model=model,
                        prompt=prompt,
                        changes=changes,
                        max_cases=self.cases.get(f"{strategy}:{model}", self.cases.get(strategy)),
                    )
                )
        return arms

    def _priors(
        self, label: str, changes: Mapping[str, Any], shared: Mapping[str, Any]
    ) -> list[Arm]:
        """Returns the arms that ask no model: the prior, its sources alone, and, if `label` is
        empty, the suite's other `priors`."""
        arms = [_arm(["prior"], strategy="prior", changes=changes, **shared)]
        for source in STANDALONE if self.sources else ("popular",):
            weights = {name: float(name == source) for name in SOURCES}
            only = {**changes, "retrieve": {**changes.get("retrieve", {}), **weights}}
            arms.append(_arm([source], strategy="prior", changes=only, **shared))
        named = {} if label else self.priors
        for name, own in named.items():
            fields = {**shared, "suffix": f"{name} {shared['suffix']}".strip()}
            arms.append(_arm(["prior"], strategy="prior", changes=own, **fields))
        return arms

    def _pairs(self, models: Sequence[str]) -> list[tuple[str, str]]:
        """Pairs of strategy and model. A strategy written `name:model` gets that model alone,
        others get each of `models`."""
        pairs = [
            (name, model)
            for strategy in self.strategies
            for name, _, own in [strategy.partition(":")]
            for model in ([own] if own else models)
        ]
        return list(dict.fromkeys(pairs))


def _arm(words: Sequence[str], *, suffix: str, **fields: Any) -> Arm:
    try:
        return Arm(name=f"{':'.join(words)} {suffix}".strip(), **fields)
    except ValidationError as error:
        raise BadRequest(f"settings {suffix!r}: {reasons(error)}") from error


class Arm(BaseModel):
    """One way to rank. Its name: strategy:model:prompt, then its settings and data where there are
    several. `changes`: to the settings; `max_cases`: it is asked about at most so many. Several
    arms may share one set of changes, hence one `Recommender`."""

    model_config = ConfigDict(frozen=True)

    name: str
    data: Path
    strategy: str
    model: str | None = None
    prompt: str | None = None
    locale: Locale | None = None
    changes: dict[str, Any] = {}
    max_cases: int | None = None

    @property
    def task(self) -> Literal["rank", "score"]:
        """The task whose prompt its strategy needs: likelihoods have a prompt of their own."""
        return "score" if self.strategy == "likelihood" else "rank"

    def settings(self, base: Settings, shown: str | None = None) -> Settings:
        """Returns the settings `base` with the arm's changes and model. `shown`: the order in which
        the model sees the candidates. Raises `ConfigError` naming the key."""
        changes: Mapping[str, Any] = self.changes
        if self.model is not None:
            roles = ("score",) if self.strategy == "likelihood" else ("rank", "explain")
            changes = {**changes, "roles": dict.fromkeys(roles, self.model)}
        if WEIGHED & _setting_names(changes):
            changes = {**changes, "rank": {"fitted": False, **changes.get("rank", {})}}
        if shown is not None:
            changes = {**changes, "rank": {**changes.get("rank", {}), "shown": shown}}
        return base.changed(changes)

    def request(self, fields: Mapping[str, Any], explain: str) -> RecommendRequest:
        own = {
            "strategy": self.strategy,
            "model": self.model,
            "prompt_id": self.prompt,
            "locale": self.locale,
        }
        return RecommendRequest.model_validate({**own, "explain": explain, **fields})


def sibling(name: str, arm: str) -> str:
    """Returns the name of the arm `name` that has the same settings and data as `arm`: `prior`
    beside `listwise:tiny k50` is `prior k50`."""
    return f"{name} {arm.partition(' ')[2]}".strip()


def _setting_names(changes: Mapping[str, Any]) -> set[str]:
    """The names of all settings that are changed, and of the sections that they are in."""
    names = set(changes)
    for value in changes.values():
        if isinstance(value, Mapping):
            names |= _setting_names(value)
    return names

"""The whole configuration: read from a file and the environment, and checked."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import PrivateAttr, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from service.config.models import Embed, Model, Roles
from service.config.rankers import RankerRecord, histories
from service.config.sections import (
    CatalogSettings,
    EngineSettings,
    EventSettings,
    ExplainSettings,
    History,
    Limits,
    PrivacySettings,
    Rank,
    Rerank,
    Retrieve,
    ServiceSettings,
    ShadowSettings,
    StoreSettings,
    Weights,
)
from service.errors import ConfigError
from service.schema import Label

HOUSE = Path(__file__).resolve().parents[2]
"""The folder that holds service/, prompts/ and configs/."""


class Settings(BaseSettings):
    """The whole configuration, frozen. A section for each part of the service."""

    model_config = SettingsConfigDict(
        env_prefix="WHYRANK_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        validate_default=True,
    )

    data: Path = Path(".whyrank")
    api_key: SecretStr | None = None
    service: ServiceSettings = ServiceSettings()
    engine: EngineSettings = EngineSettings()
    models: dict[Label, Model] = {}
    roles: Roles = Roles()
    fallback: list[str] = []
    store: StoreSettings = StoreSettings()
    catalog: CatalogSettings = CatalogSettings()
    embed: Embed = Embed()
    events: EventSettings = EventSettings()
    retrieve: Retrieve = Retrieve()
    rank: Rank = Rank()
    explain: ExplainSettings = ExplainSettings()
    rerank: Rerank = Rerank()
    limits: Limits = Limits()
    shadow: ShadowSettings = ShadowSettings()
    privacy: PrivacySettings = PrivacySettings()
    _file: Path | None = PrivateAttr(None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings

    @field_validator("api_key")
    @classmethod
    def _check_key_length(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < 16:
            raise ValueError("WHYRANK_API_KEY needs at least 16 characters")
        return key

    @model_validator(mode="after")
    def _fill_roles(self) -> Self:
        """Gives each role without an alias to the first model that can do it."""
        writers = [alias for alias, model in self.models.items() if model.backend != "local"]
        rank = self.roles.rank or next(iter(writers), None)
        filled = {
            "rank": rank,
            "explain": self.roles.explain or rank,
            "score": self.roles.score or (None if writers else next(iter(self.models), None)),
        }
        object.__setattr__(self, "roles", self.roles.model_copy(update=filled))
        return self

    @model_validator(mode="after")
    def _check_aliases(self) -> Self:
        """Refuses an alias that is not under models, or whose model can't do what it is named
        for."""
        asks_likelihood = self.shadow.strategy in {"auto", "likelihood"}
        may_be_local = {"roles.score", "shadow.model"} if asks_likelihood else {"roles.score"}
        aliases = {
            **{f"roles.{role}": alias for role, alias in self.roles.model_dump().items()},
            "engine.model": self.engine.model,
            "shadow.model": self.shadow.model,
            **{f"fallback[{n}]": alias for n, alias in enumerate(self.fallback)},
        }
        local = [alias for alias, model in self.models.items() if model.backend == "local"]
        for key, alias in aliases.items():
            if alias is not None and alias not in self.models:
                raise ValueError(
                    f"{key} names {alias!r}, which is not under models "
                    f"({', '.join(self.models) or 'none'})"
                )
            if alias in local and key not in may_be_local:
                raise ValueError(
                    f"{key} names {alias!r}, whose backend local tells likelihoods only"
                )
        if not self.models and self.rank.strategy not in {"auto", "prior"}:
            raise ValueError(
                f"rank.strategy is {self.rank.strategy!r}, which asks a model, and there is "
                f"none under models"
            )
        return self

    def reread(self) -> Self:
        """The settings that the same file and the environment give now. Raises `ConfigError`, also
        if these settings were not read from a file."""
        if self._file is None:
            raise ConfigError(
                "these settings were not read from a file: there is none to read anew"
            )
        return self.load(self._file)

    def differing(self, other: Self) -> list[str]:
        """Keys whose values differ between the two, as `roles.rank`."""
        return _differing_keys(self.model_dump(), other.model_dump())

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """These settings with some keys replaced, at any depth. Raises `ConfigError` naming the key
        and reason."""
        try:
            # The environment was read already and must not undo the change: no variable has this
            # prefix.
            return type(self)(_env_prefix="unset ", **_merge(self.model_dump(), changes))
        except ValidationError as error:
            raise _config_error(Path("settings"), error) from error

    @property
    def store_url(self) -> str:
        """SQLAlchemy URL of the database."""
        return self.store.url or f"sqlite:///{(self.data / 'whyrank.db').resolve()}"

    @property
    def served(self) -> str | None:
        """The alias that the local engine serves; None if no model's backend is vllm."""
        aliases = [alias for alias, model in self.models.items() if model.backend == "vllm"]
        ranks = self.roles.rank if self.roles.rank in aliases else None
        return self.engine.model or ranks or next(iter(aliases), None)

    @property
    def weights_folder(self) -> Path:
        """Where `whyrank fit` writes what it found."""
        return self.rank.weights or self.data / "weights"

    @property
    def serving(self) -> dict[str, tuple[int, ...]]:
        """The numbers of the rankers that serve, by domain."""
        return {name: one.serving for name, one in histories(self.rankers_folder).items()}

    @property
    def file(self) -> Path | None:
        """The file that these settings were read from."""
        return self._file

    def rankers(self) -> dict[str, dict[History, RankerRecord]]:
        """The learned rankers that serve, by domain and kind of history; none if `rank.fitted` is
        false. Raises `ConfigError` naming a file that can't be used."""
        if not self.rank.fitted:
            return {}
        served = {name: one.served() for name, one in histories(self.rankers_folder).items()}
        return {domain: records for domain, records in served.items() if records}

    @property
    def rankers_folder(self) -> Path:
        """Where `whyrank fit --ranker` keeps what it learned, a folder for each domain."""
        return self.weights_folder / "rankers"

    def configured(self, domain: str, alias: str | None) -> Weights:
        """Fusion's weights in a domain for a model while none were fitted; `alias` None: without a
        model."""
        model = self.models[alias] if alias is not None else None
        return Weights(
            **self.retrieve.of(domain),
            model=model.weight if model is not None else 0,
            null=model.null if model is not None else 0,
            popularity=self.rank.popularity,
            diversity=self.rank.diversity,
        )

    def fitted(self) -> dict[str, Weights]:
        """The weights that `whyrank fit` found, by `{domain}.{alias}`; empty if `rank.fitted` is
        false. Raises `ConfigError` naming a file that can't be used."""
        fitted = {}
        for file in sorted(self.weights_folder.glob("*.yaml")) if self.rank.fitted else ():
            try:
                fitted[file.stem] = Weights.model_validate(
                    yaml.safe_load(file.read_text())["weights"]
                )
            except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
                raise ConfigError(
                    f"{file}: no fitted weights: {error!r}; 'whyrank fit' writes it anew"
                ) from error
            except ValidationError as error:
                raise _config_error(file, error) from error
        return fitted

    def weights_path(self, alias: str) -> Path:
        """The folder of a model's weights; default: where `whyrank models pull` puts them."""
        model = self.models[alias]
        return model.path or self.data / "models" / (
            model.model if model.backend == "local" else alias
        )

    @classmethod
    def load(cls, path: str | Path | None = None) -> Self:
        """Read the configuration. Raises `ConfigError` naming file, key and reason."""
        file = Path(path or os.environ.get("WHYRANK_CONFIG") or HOUSE / "configs" / "cpu.yaml")
        try:
            content = yaml.safe_load(file.read_text()) or {}
        except OSError as error:
            raise ConfigError(f"{file}: can't be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file}: not UTF-8: {error}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{file}: not YAML: {error}") from error
        if not isinstance(content, dict):
            raise ConfigError(f"{file}: expected keys and values, found {type(content).__name__}")
        if "api_key" in content:
            raise ConfigError(
                f"{file}: api_key: a secret; set WHYRANK_API_KEY in the environment",
                param="api_key",
            )
        for name in sorted(os.environ):
            section = name.removeprefix("WHYRANK_").lower().split("__")[0]
            if name.startswith("WHYRANK_") and section not in {*cls.model_fields, "config"}:
                raise ConfigError(f"environment {name}: no such setting", param=name)
        try:
            # a key is null where all that stood under it is commented out
            settings = cls(**{key: value for key, value in content.items() if value is not None})
        except ValidationError as error:
            raise _config_error(file, error) from error
        settings._file = file
        return settings


def _merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The old mapping with the values of the new one, key by key at every depth."""
    merged = {**old, **new}
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(old.get(key), Mapping):
            merged[key] = _merge(old[key], value)
    return merged


def _differing_keys(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            keys += _differing_keys(before, after, f"{prefix}{key}.")
        elif before != after:
            keys.append(f"{prefix}{key}")
    return keys


def _config_error(file: Path, error: ValidationError) -> ConfigError:
    """All that is wrong, a line each: the file or the environment variable, the key, the reason."""
    lines = []
    for detail in error.errors(include_url=False, include_input=False):
        key = ".".join(map(str, detail["loc"])) or "settings"
        variable = f"WHYRANK_{key.upper().replace('.', '__')}"
        source = f"environment {variable}" if variable in os.environ else f"{file}"
        reason = (
            "no such setting"
            if detail["type"] == "extra_forbidden"
            else detail["msg"].removeprefix("Value error, ")
        )
        lines.append(f"{source}: {key}: {reason}")
    return ConfigError("\n".join(lines), param=str(error.errors()[0]["loc"]))

"""Settings: one frozen value, from a YAML file and the environment, checked once at the edge.

`Settings.load(path)` reads `path`, else `$WHYRANK_CONFIG`, else `configs/cpu.yaml`. The environment
wins over the file: `WHYRANK_RANK__WINDOW=10` sets `rank.window`. Secrets (`WHYRANK_API_KEY`) come
from the environment only.

Import settings from here. `settings` reads and checks them, `models` and `sections` say what they
hold.
"""

from service.config.models import Embed, Model, Roles
from service.config.rankers import RankerHistory, RankerRecord
from service.config.sections import (
    DOMAIN_MEANINGS,
    HISTORIES,
    MEANINGS,
    SOURCES,
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
    TrainingSettings,
    WeightByHistory,
    Weights,
    at_history,
    greatest,
    history_of,
)
from service.config.settings import HOUSE, Settings

__all__ = [
    "DOMAIN_MEANINGS",
    "HISTORIES",
    "HOUSE",
    "MEANINGS",
    "SOURCES",
    "CatalogSettings",
    "Embed",
    "EngineSettings",
    "EventSettings",
    "ExplainSettings",
    "History",
    "Limits",
    "Model",
    "PrivacySettings",
    "Rank",
    "RankerHistory",
    "RankerRecord",
    "Rerank",
    "Retrieve",
    "Roles",
    "ServiceSettings",
    "Settings",
    "ShadowSettings",
    "StoreSettings",
    "TrainingSettings",
    "WeightByHistory",
    "Weights",
    "at_history",
    "greatest",
    "history_of",
]

"""Logs and metrics. Logs are JSON lines without personal data: no user ids, no texts, no keys."""

from __future__ import annotations

import logging
import sys

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from service.schema import Ranking, Usage

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)


class Telemetry:
    """One registry a process part, so that two services in one process don't mix their numbers."""

    def __init__(self) -> None:
        self.log: structlog.stdlib.BoundLogger = structlog.get_logger("whyrank")
        self.registry = CollectorRegistry()
        self.requests = Counter("whyrank_requests", "Answers sent", ["route", "status"], registry=self.registry)
        self.latency = Histogram(
            "whyrank_request_seconds", "Time to answer", ["route"], buckets=BUCKETS, registry=self.registry
        )
        self.rankings = Histogram(
            "whyrank_ranking_seconds", "Time of a ranking", ["strategy", "model"], buckets=BUCKETS, registry=self.registry
        )
        self.tokens = Counter("whyrank_tokens", "Tokens of model calls", ["model", "kind"], registry=self.registry)
        self.cost = Counter("whyrank_cost_dollars", "What model calls cost", ["model"], registry=self.registry)
        self.failures = Counter(
            "whyrank_model_failures", "Model calls that failed", ["model", "reason"], registry=self.registry
        )
        self.degraded = Counter(
            "whyrank_degraded", "Rankings that did without what was asked", ["source", "reason"], registry=self.registry
        )
        self.shadow = Counter("whyrank_shadow", "Rankings by the shadow model", ["outcome"], registry=self.registry)
        self.events = Counter("whyrank_events", "Elements of feeds", ["feed", "outcome"], registry=self.registry)
        self.backlog = Gauge("whyrank_embedding_backlog", "Items whose vector is still to come", registry=self.registry)

    def ranked(self, ranking: Ranking) -> None:
        model = ranking.model or "none"
        self.rankings.labels(ranking.strategy, model).observe(ranking.timings.total_ms / 1000)
        if ranking.degraded:
            self.degraded.labels(ranking.degraded.from_, ranking.degraded.reason).inc()
            self.log.warning(
                "degraded", ranking_id=ranking.ranking_id, **ranking.degraded.model_dump(by_alias=True), model=ranking.model
            )

    def used(self, model: str, usage: Usage) -> None:
        for kind in ("prompt", "completion", "cached"):
            self.tokens.labels(model, kind).inc(getattr(usage, f"{kind}_tokens"))
        if usage.cost:
            self.cost.labels(model).inc(usage.cost)

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def log_as_json() -> None:
    """Once a process that serves: our logs as JSON lines on standard error, with time and level."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),  # as it is then: it may have been replaced
    )

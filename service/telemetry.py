"""Logs and metrics. Logs hold no personal data: no user ids, no texts, no keys.

Logs go to standard error: as text for people, as JSON lines where a process serves.
"""

import faulthandler
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from service.schema import Ranking, Timings, Usage

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)


class Telemetry:
    """The logger and the metrics of one service. Each instance has a metrics registry of its own,
    so that two services in one process don't mix their numbers."""

    def __init__(self) -> None:
        if not structlog.is_configured():  # by `json_logs`, or by whoever uses us as a library
            log_as_text()
        self.log: structlog.stdlib.BoundLogger = structlog.get_logger("whyrank")
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        seconds = partial(Histogram, buckets=BUCKETS, registry=self.registry)
        self.requests = counter("whyrank_requests", "Answers sent", ["route", "status"])
        self.latency = seconds("whyrank_request_seconds", "Time to answer", ["route"])
        self.rankings = seconds(
            "whyrank_ranking_seconds", "Time of a ranking", ["strategy", "model"]
        )
        self.tokens = counter("whyrank_tokens", "Tokens of model calls", ["model", "kind"])
        self.cost = counter("whyrank_cost_dollars", "What model calls cost", ["model"])
        self.failures = counter(
            "whyrank_model_failures", "Model calls that failed", ["model", "reason"]
        )
        self.degraded = counter(
            "whyrank_degraded", "Rankings that did without what was asked", ["source", "reason"]
        )
        self.shadow = counter("whyrank_shadow", "Rankings by the shadow model", ["outcome"])
        self.events = counter("whyrank_events", "Elements of feeds", ["feed", "outcome"])
        self.backlog = Gauge(
            "whyrank_embedding_backlog",
            "Items whose vector is still to come",
            registry=self.registry,
        )

    def leave_request(self) -> None:
        """Detaches the current task from its request: its later log lines don't carry the request's
        id."""
        structlog.contextvars.clear_contextvars()

    def ranked(self, ranking: Ranking) -> None:
        self.rankings.labels(ranking.strategy, ranking.model or "none").observe(
            ranking.timings.total_ms / 1000
        )
        if ranking.degraded:
            self.degraded.labels(ranking.degraded.from_, ranking.degraded.reason).inc()
            self.log.warning(
                "degraded",
                ranking_id=ranking.ranking_id,
                **ranking.degraded.model_dump(by_alias=True),
                model=ranking.model,
            )

    def used(self, model: str, usage: Usage) -> None:
        for kind in ("prompt", "completion", "cached"):
            self.tokens.labels(model, kind).inc(getattr(usage, f"{kind}_tokens"))
        if usage.cost:
            self.cost.labels(model).inc(usage.cost)

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def log_as_text() -> None:
    """Writes our logs as lines for people to standard error. structlog's default is standard
    output, where commands print their answers."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # looked up whenever a line is logged, since `sys.stderr` may be replaced meanwhile
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
    )


@contextmanager
def json_logs() -> Iterator[None]:
    """Context manager: inside it, every line on standard error is a JSON object. This holds for our
    logs, those of Python's `logging`, warnings, and what native libraries and the interpreter
    write, also the trace of a crash."""
    with _through_relay(), _logging_as_json():
        if not faulthandler.is_enabled():
            faulthandler.enable(file=2)
        yield


@contextmanager
def _logging_as_json() -> Iterator[None]:
    """Context manager: inside it, all logs go through Python's `logging`, whose handler writes
    whole lines from any thread and survives a full disk."""
    first: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*first, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    level = logging.root.level
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("whyrank").setLevel(logging.INFO)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[*first, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    try:
        yield
    finally:
        logging.captureWarnings(False)
        logging.root.removeHandler(handler)
        logging.root.setLevel(level)
        structlog.reset_defaults()


@contextmanager
def _through_relay() -> Iterator[None]:
    """Context manager: inside it, file descriptor 2 leads to the program `relay`, which wraps lines
    that are not JSON objects into JSON. `relay` is a process of its own, since it must read what a
    crash of this process leaves in the pipe."""
    stderr = os.dup(2)
    reader, writer = os.pipe()
    relay = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("relay.py"))],
        stdin=reader,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )
    os.dup2(writer, 2)
    os.close(reader)
    os.close(writer)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
        # a child of ours that goes on may still hold the pipe
        with suppress(subprocess.TimeoutExpired):
            relay.wait(5)


class Stopwatch:
    """Times the parts of a request, in milliseconds."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._parts: dict[str, float] = {}

    def mark(self, name: str) -> None:
        """Ends the part `name`, which began when the previous part ended."""
        now = time.perf_counter()
        self._parts[name] = round((now - self._last) * 1000, 2)
        self._last = now

    def timings(self) -> Timings:
        return Timings(total_ms=round((time.perf_counter() - self._start) * 1000, 2), **self._parts)

"""Prometheus metrics of one app, in a registry of its own. Labels never carry text of users."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cai.critique.records import Step
from cai.types import Usage

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})


class Metrics:
    """Counters, gauges and histograms by name."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        self._requests = Counter(
            "cai_requests", "Requests answered.", ("route", "method", "status"), registry=registry
        )
        self._seconds = Histogram(
            "cai_request_seconds",
            "Seconds from a request's first byte to its answer's last.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._first_token = Histogram(
            "cai_time_to_first_token_seconds",
            "Seconds to the first token of a streamed answer.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._tokens = Counter("cai_tokens", "Tokens by kind.", ("kind",), registry=registry)
        self._steps = Counter(
            "cai_loop_steps",
            "Critique-revision steps by how they ended.",
            ("status",),
            registry=registry,
        )
        self._prompt_tokens = self._tokens.labels("prompt")
        self._completion_tokens = self._tokens.labels("completion")
        self._cached_tokens = self._tokens.labels("cached")
        # Looking up a labelled child costs more than counting does.
        self._by_request: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def watch(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(name, help_text, registry=self.registry).set_function(read)

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        known = method if method in _METHODS else "other"
        found = self._by_request.get((route, known, status))
        if found is None:
            found = (
                self._requests.labels(route, known, str(status)),
                self._seconds.labels(route),
            )
            self._by_request[route, known, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def observe_first_token(self, route: str, seconds: float) -> None:
        """Note how long a stream took to begin."""
        self._first_token.labels(route).observe(seconds)

    def observe_usage(self, usage: Usage) -> None:
        """Count tokens."""
        self._prompt_tokens.inc(usage.prompt_tokens)
        self._completion_tokens.inc(usage.completion_tokens)
        self._cached_tokens.inc(usage.cached_tokens)

    def observe_step(self, step: Step) -> None:
        """Count a step of the loop."""
        self._steps.labels(step.problem or step.status).inc()

    def text(self) -> bytes:
        """The exposition that Prometheus scrapes."""
        return generate_latest(self.registry)

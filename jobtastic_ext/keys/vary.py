"""What tells calls apart and is no argument: headers and the queue, as `Vary` says in HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEADERS, QUEUE = "headers", "queue"

#: What a single header begins with in a policy.
NAMED = "headers."

#: Headers by which a message is traced or was carried: they differ for every message, and no task
#: should return another value because of them.  In lower case.
TRACING = frozenset(
    (
        "jobtastic",
        # W3C, B3, Jaeger, AWS X-Ray, Google Cloud
        "traceparent",
        "tracestate",
        "baggage",
        "b3",
        "uber-trace-id",
        "x-amzn-trace-id",
        "x-cloud-trace-context",
        # New Relic, Elastic, Rollbar, Scout
        "newrelic",
        "elastic-apm-traceparent",
        "parenttaskid",
        # What ties a message to the request that led to it
        "correlation_id",
        "correlation-id",
        "request_id",
        "request-id",
        "x-request-id",
        "x-correlation-id",
        "x-parent-id",
        "x-transaction-id",
        "__django_structlog__",
        # What brokers add
        "redelivered",
        "x-delivery-count",
        "x-acquired-count",
    )
)
TRACING_PREFIXES = (
    "sentry-",
    "x-datadog-",
    "x-b3-",
    "uberctx-",
    "ot-tracer-",
    "jobtastic_",
    "x-death",
    "x-first-death-",
    "x-last-death-",
    "x-opt-",
)


def is_tracing(name: str) -> bool:
    """Whether a header does not count."""
    low = name.lower()
    return low in TRACING or low.startswith(TRACING_PREFIXES)


class Vary:
    """What counts beside the arguments of one task, as its policy says."""

    def __init__(self, fields: Sequence[str]) -> None:
        #: Whether the queue counts.
        self.queue = QUEUE in fields
        self._every = HEADERS in fields
        self._named = tuple(f.removeprefix(NAMED) for f in fields if f.startswith(NAMED))
        #: Whether any header counts.
        self.headers = self._every or bool(self._named)

    def of(self, headers: Mapping[str, Any] | None, place: Sequence[str] = ()) -> Any:
        """Return what of a call counts, to be encoded; None if nothing does.

        `place` is where it was sent by name: exchange and routing key, or nothing.
        """
        counting = self.counting(headers) if headers and self.headers else {}
        where = list(place) if self.queue else []
        return [counting, where] if counting or where else None

    def counting(self, headers: Mapping[str, Any]) -> dict[str, Any]:
        """Return the headers that count."""
        return {
            name: value
            for name, value in headers.items()
            if (self._every and not is_tracing(name)) or name in self._named
        }

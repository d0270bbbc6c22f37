"""The metrics and the log line of a request, under the template of its route: a path may contain a secret."""

from time import perf_counter
from typing import Protocol

from chassis.errors import Kind
from chassis.http import STATUS
from chassis.telemetry import logger
from prometheus_client import Counter

from gateway.metrics import CLIENT_DISCONNECTS, REQUEST_SECONDS, REQUESTS

# Never sent: logs and metrics show with it that the client disconnected first.
CLIENT_DISCONNECTED = STATUS[Kind.CANCELLED]

log = logger("gateway")


class RecordedResponse(Protocol):
    """What is recorded of a response."""

    request_id: str
    status: int
    started_at: float

    @property
    def code(self) -> str | None: ...


class RouteMetrics:
    """The metrics of one route, with their labelled children bound once."""

    def __init__(self, route: str) -> None:
        self._route = route
        self._seconds = REQUEST_SECONDS.labels(route)
        self._disconnects = CLIENT_DISCONNECTS.labels(route)
        self._by_status: dict[int, Counter] = {}

    def record(self, response: "RecordedResponse", method: str) -> None:
        seconds = perf_counter() - response.started_at
        counter = self._by_status.get(response.status)
        if counter is None:
            counter = self._by_status[response.status] = REQUESTS.labels(self._route, str(response.status))
        counter.inc()
        self._seconds.observe(seconds)
        if response.status == CLIENT_DISCONNECTED:
            self._disconnects.inc()
        log.info(
            "request",
            method=method,
            route=self._route,
            status=response.status,
            code=response.code,
            seconds=round(seconds, 6),
            request_id=response.request_id,
        )

"""The response to one request: it is written, and then recorded in metrics and the log line.

Both name the template of the route in place of the path, which may contain a secret.
"""

import math
from collections.abc import Iterable, MutableMapping
from time import perf_counter
from typing import Any

import orjson
from chassis.errors import ArgosyError, Kind
from chassis.http import STATUS, ClientDisconnected, Send, openai_error, send_error
from chassis.in_flight import InFlight
from chassis.telemetry import logger
from prometheus_client import Counter

from gateway.metrics import CLIENT_DISCONNECTS, REQUEST_SECONDS, REQUESTS
from gateway.rate_limits.limiter import RateLimitStatus
from gateway.web.route_table import MethodNotAllowed

Headers = Iterable[tuple[bytes, bytes]]

JSON = b"application/json"
REQUEST_ID = b"x-request-id"
# Rate limits, in the headers that OpenAI's clients read.
LIMIT = b"x-ratelimit-limit-requests"
REMAINING = b"x-ratelimit-remaining-requests"
RESET = b"x-ratelimit-reset-requests"
# Never sent: logs and metrics show with it that the client disconnected first.
CLIENT_DISCONNECTED = STATUS[Kind.CANCELLED]

log = logger("gateway")


class ResponseWriter:
    """Writes the response to one request, and keeps its id, status and error for metrics and logs."""

    __slots__ = ("_send", "body", "error", "extra_headers", "finished", "request_id", "started_at", "status")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0
        self.error: ArgosyError | None = None
        self.body: InFlight | None = None
        """What the request's body takes of the budget; given back when the response starts, or the request ends."""
        self.finished = False
        self.extra_headers: Headers = ()
        """Sent with whatever the response is, an error, too."""
        self.started_at = perf_counter()

    @property
    def code(self) -> str | None:
        return None if self.error is None else self.error.code

    async def start(self, status: int, headers: Headers) -> None:
        self.status = status
        self.release_body()
        all_headers = [*self._own_headers(), *headers]
        await self._send({"type": "http.response.start", "status": status, "headers": all_headers})

    def release_body(self) -> None:
        if self.body is not None:
            self.body.release()

    async def write(self, body: bytes) -> None:
        """Send bytes; waits while the client reads more slowly than we write."""
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def finish(self, body: bytes = b"") -> None:
        self.finished = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def send_response(
        self, status: int, body: bytes, headers: Headers = (), *, content_type: bytes = JSON
    ) -> None:
        length = str(len(body)).encode()
        await self.start(status, ((b"content-type", content_type), (b"content-length", length), *headers))
        await self.finish(body)

    async def send_error(self, error: ArgosyError) -> None:
        self.status = STATUS[error.kind]
        await send_error(self._send, error, self._own_headers())

    async def send_method_not_allowed(self, error: MethodNotAllowed, allow: bytes) -> None:
        self.error = error
        body = orjson.dumps(openai_error(error))
        await self.send_response(405, body, ((b"allow", allow),))

    async def forward(self, message: MutableMapping[str, Any]) -> None:
        """Send a message of an ASGI application, with the request id added to the headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._own_headers()]
        else:
            self.finished = not message.get("more_body", False)
        await self._send(message)

    async def forward_head(self, message: MutableMapping[str, Any]) -> None:
        """Send the status and headers of a message for GET as the response to HEAD; its body is not awaited."""
        if message["type"] == "http.response.start":
            await self.forward(message)
        elif not self.finished:
            await self.forward({"type": "http.response.body"})
            if message.get("more_body", False):
                raise ClientDisconnected("A response to HEAD has no body.")

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        return [(REQUEST_ID, self.request_id.encode()), *self.extra_headers]


class RouteMetrics:
    """The metrics of one route, with their labelled children bound once."""

    def __init__(self, route: str) -> None:
        self._route = route
        self._seconds = REQUEST_SECONDS.labels(route)
        self._disconnects = CLIENT_DISCONNECTS.labels(route)
        self._by_status: dict[int, Counter] = {}

    def record(self, response: ResponseWriter, method: str) -> None:
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


def rate_limit_headers(status: RateLimitStatus | None) -> Headers:
    """Write the headers; none when nothing is limited."""
    if status is None:
        return ()
    limit, remaining, reset_seconds = status
    return (
        (LIMIT, b"%d" % limit),
        (REMAINING, b"%d" % remaining),
        (RESET, format_duration(reset_seconds)),
    )


def format_duration(seconds: float) -> bytes:
    """Write a duration as OpenAI does: `20ms`, `1s`, `8.64s`, `6m0s`."""
    if seconds < 1:
        return b"%dms" % math.ceil(seconds * 1000)
    minutes, rest = divmod(round(seconds, 3), 60)
    text = b"%g" % round(rest, 3)
    return b"%dm%bs" % (minutes, text) if minutes else text + b"s"

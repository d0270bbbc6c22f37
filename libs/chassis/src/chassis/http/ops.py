"""The ops port: liveness, readiness and metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
import prometheus_client

from chassis.http.asgi import Header, Receive, Routes, Scope, Send, send_json
from chassis.http.server import HttpServer
from chassis.settings import OpsSection
from chassis.telemetry.metrics import exposition

TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")
EXPOSITION: Header = (b"content-type", prometheus_client.CONTENT_TYPE_LATEST.encode())

Checks = Callable[[], Awaitable[dict[str, str]]]


class OpsServer(HttpServer):
    """Serves `/healthz`, `/readyz` and `/metrics`; ready when all checks are `ok`; the others say why not."""

    def __init__(self, section: OpsSection, ready: Checks) -> None:
        self._ready = ready
        table = {
            ("GET", "/healthz"): self._healthz,
            ("GET", "/readyz"): self._readyz,
            ("GET", "/metrics"): self._metrics,
        }
        super().__init__(Routes(table, _not_found), section.host, section.port, name="ops")

    async def _healthz(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await _send_text(send, 200, b"ok\n")

    async def _readyz(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        checks = await self._ready()
        ready = bool(checks) and all(state == "ok" for state in checks.values())
        await send_json(send, 200 if ready else 503, orjson.dumps({"ready": ready, "checks": checks}))

    async def _metrics(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await _send_text(send, 200, exposition(), EXPOSITION)


async def _not_found(_scope: Scope, _receive: Receive, send: Send) -> None:
    await _send_text(send, 404, b"There are /healthz, /readyz and /metrics.\n")


async def _send_text(send: Send, status: int, body: bytes, kind: Header = TEXT) -> None:
    headers = [kind, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""What reached the wire of one provider call that a library makes over httpx.

A library's exception tells what the library thought. Whether the provider answered, and with which status, decides
whether the call may have cost something, so it is seen where the request is sent.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any


@dataclass(slots=True)
class Exchange:
    """The last POST of a call: whether sending it began, and its response's status; 0 without one."""

    sent: bool = False
    status: int = 0


_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


@contextmanager
def observed_exchange() -> Iterator[Exchange]:
    """Observe what this task, and what it runs in threads, posts through httpx."""
    exchange = Exchange()
    token = _current.set(exchange)
    try:
        yield exchange
    finally:
        _current.reset(token)


def observe_httpx() -> None:
    """Make httpx report to `observed_exchange`. It has no hook for all clients, and libraries make their own."""
    import httpx  # noqa: PLC0415

    httpx.AsyncClient.send = _observed_async(httpx.AsyncClient.send)  # type: ignore[assignment, method-assign]
    httpx.Client.send = _observed(httpx.Client.send)  # type: ignore[method-assign]


def _observed_async(send: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(send)
    async def observed(client: Any, request: Any, **arguments: Any) -> Any:
        exchange = _begin(request)
        response = await send(client, request, **arguments)
        if exchange is not None:
            exchange.status = response.status_code
        return response

    return observed


def _observed(send: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(send)
    def observed(client: Any, request: Any, **arguments: Any) -> Any:
        exchange = _begin(request)
        response = send(client, request, **arguments)
        if exchange is not None:
            exchange.status = response.status_code
        return response

    return observed


def _begin(request: Any) -> Exchange | None:
    # A library also gets images that a prompt links to; only a POST can be the call itself.
    exchange = _current.get() if request.method == "POST" else None
    if exchange is not None:
        exchange.sent, exchange.status = True, 0
    return exchange

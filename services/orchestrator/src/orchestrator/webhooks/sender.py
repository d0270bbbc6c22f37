"""Posts deliveries over HTTP to addresses that were checked, and to no other."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from ssl import SSLContext, create_default_context
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from orchestrator.webhooks.model import Answer, WebhookUrlNotAllowed
from orchestrator.webhooks.ports import Resolver
from orchestrator.webhooks.targets import DEFAULT_PORTS, Target, TargetPolicy, check_addresses, parse_target

RESOLVER_THREADS = 64
RESPONSE_BYTES = 1_024
# The status decides; the body is for the log only, so it is not waited for.
RESPONSE_SECONDS = 2.0
MAX_HEADER_BYTES = 8_190


class SystemResolver:
    """The system's resolver, in threads of its own: a slow name must not delay what else runs in threads.

    Deliveries that wait for the same name share one query.
    """

    def __init__(self, threads: int = RESOLVER_THREADS) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="webhook-dns")
        self._queries: dict[str, asyncio.Future[Sequence[str]]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def resolve(self, host: str) -> Sequence[str]:
        query = self._queries.get(host)
        if query is None:
            query = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host)
            self._queries[host] = query
            query.add_done_callback(lambda done: self._end(host, done))
        return await asyncio.shield(query)

    def _end(self, host: str, done: asyncio.Future[Sequence[str]]) -> None:
        self._queries.pop(host, None)
        if not done.cancelled():
            done.exception()  # retrieved, although every caller may have given up


def _look_up(host: str) -> Sequence[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedResolver(AbstractResolver):
    """Gives aiohttp addresses of a name only when all of them are allowed."""

    def __init__(self, resolver: Resolver, policy: TargetPolicy) -> None:
        self._resolver = resolver
        self._policy = policy

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - all of them
    ) -> list[ResolveResult]:
        target = Target("", host, port, "")
        allowed = check_addresses(target, await self._resolver.resolve(host), self._policy)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in allowed
        ]

    async def close(self) -> None:
        """Nothing is open."""


class HttpSender:
    """Makes one request per delivery, on a connection of its own; an async context manager.

    No redirects, no proxies, no cookies, no decompression. `timeout` includes the resolution of the name.
    """

    def __init__(
        self, resolver: Resolver, policy: TargetPolicy, timeout: timedelta, ssl: SSLContext | None = None
    ) -> None:
        self._policy = policy
        self._timeout_seconds = timeout.total_seconds()
        self._resolver = CheckedResolver(resolver, policy)
        self._ssl = ssl
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            use_dns_cache=False,
            force_close=True,
            limit=0,
            ssl=self._ssl or create_default_context(),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            # The whole is bounded in `post`.
            timeout=aiohttp.ClientTimeout(total=None),
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        try:
            target = parse_target(url, self._policy)
            async with asyncio.timeout(self._timeout_seconds):
                return await self._post(target, headers, body)
        except WebhookUrlNotAllowed as error:
            return Answer(error=error.code)
        except TimeoutError:
            return Answer(error="timed_out")
        except aiohttp.ClientConnectorDNSError:
            return Answer(error="name_not_resolved")
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError):
            return Answer(error="tls_failed")
        except aiohttp.ClientConnectorError:
            return Answer(error="connection_failed")
        except (aiohttp.ClientError, OSError, ValueError):
            return Answer(error="invalid_response")

    async def _post(self, target: Target, headers: Mapping[str, str], body: bytes) -> Answer:
        if self._session is None:
            raise RuntimeError("the sender is not open")
        async with self._session.post(
            _to_url(target), data=body, headers=headers, allow_redirects=False, skip_auto_headers=("Accept-Encoding",)
        ) as response:
            answered = await _read_start(response)
            retry_after = parse_retry_after(response.headers.get("Retry-After", ""), datetime.now(UTC))
            if 200 <= response.status < 300:
                return Answer(response.status, response=answered)
            error = "redirected" if 300 <= response.status < 400 else "unexpected_status"
            return Answer(response.status, error, answered, retry_after)


def parse_retry_after(text: str, now: datetime) -> timedelta | None:
    """Read the header: seconds or a date. None for what is neither, or past."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return timedelta(seconds=int(text))
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    wait = (until if until.tzinfo else until.replace(tzinfo=UTC)) - now
    return wait if wait > timedelta(0) else None


async def _read_start(response: Any) -> str:
    """Read the body's beginning, as far as it comes at once."""
    body = b""
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(RESPONSE_SECONDS):
            while len(body) < RESPONSE_BYTES:
                chunk = await response.content.read(RESPONSE_BYTES - len(body))
                if not chunk:
                    break
                body += chunk
    # Postgres stores no zeros.
    return body.decode(errors="replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _to_url(target: Target) -> URL:
    host = f"[{target.host}]" if ":" in target.host else target.host
    port = "" if DEFAULT_PORTS[target.scheme] == target.port else f":{target.port}"
    return URL(f"{target.scheme}://{host}{port}{target.path}", encoded=True)

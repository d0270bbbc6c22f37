"""Readiness: Redis accepts the service. While no Redis answers, the service is ready, because it works without."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final
from urllib.parse import urlsplit

from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from chassis.aio import Loop, wait_or_stop
from chassis.errors import Unavailable
from chassis.settings import RedisSection
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog
from chassis.tls import accepts_tls

CHECK_TIMEOUT_SECONDS: Final = 2.0  # of each question
RETRY_SECONDS: Final = 2.0
DEFAULT_PORT: Final = 6379
CLUSTER: Final = (
    "Redis runs in cluster mode, which is not supported: scripts with several keys, numbered databases and"
    " subscriptions need one node; name a Redis without cluster mode in REDIS__URL"
)

log = logger("chassis.redis")


class RedisCheck(Loop):
    """A component that is not ready while Redis answers and refuses the service, from its start on.

    That is a wrong user, password or database, a certificate that is not trusted, or cluster mode. Once Redis has
    accepted the service there is no further check: a later refusal is like an outage, which the service bears.
    """

    def __init__(self, section: RedisSection) -> None:
        super().__init__("redis", self._watch)
        self._url = section.url
        self._checked = False
        self._refusal: str | None = None
        self._failure_log = RateLimitedLog(log, interval_seconds=60.0)

    async def ready(self) -> bool:
        if not self._checked:
            raise Unavailable("redis has not been asked yet")
        if self._refusal is not None:
            raise Unavailable(self._refusal)
        return True

    async def _watch(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            accepted = await self._ask()
            self._checked = True
            if accepted:
                return
            await wait_or_stop(stop, RETRY_SECONDS)

    async def _ask(self) -> bool:
        """Ask once; returns whether Redis accepts the service."""
        client = Client.from_url(self._url, retry=Retry(NoBackoff(), 0), protocol=2, driver_info=None)
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS), client:
                in_cluster = (await client.info("cluster")).get("cluster_enabled") == 1
        except NoPermissionError:
            # The user may not run INFO. What matters to the services is refused or not at their own commands.
            self._refusal = None
            return True
        except Exception as error:  # noqa: BLE001 - what Redis answers must not end the service
            self._refusal = _sentence(error) or await _other_protocol(self._url, error)
            if self._refusal is not None:
                self._failure_log.warning("redis_refused", key=self._refusal, error=self._refusal)
            return False
        self._refusal = CLUSTER if in_cluster else None
        if self._refusal is not None:
            self._failure_log.warning("redis_refused", key="cluster", error=self._refusal)
        return not in_cluster


async def _other_protocol(url: str, error: Exception) -> str | None:
    """Return a sentence when Redis gave no answer with or without TLS, as `url` says, and gives one the other way."""
    address = urlsplit(url)
    host, port = address.hostname or "localhost", address.port or DEFAULT_PORT
    if address.scheme == "unix" or not isinstance(error, RedisConnectionError | TimeoutError | RedisTimeoutError):
        return None
    if address.scheme == "redis" and await accepts_tls(host, port, CHECK_TIMEOUT_SECONDS):
        return "Redis speaks TLS on this port: check the scheme of REDIS__URL, rediss:// is with TLS"
    if address.scheme == "rediss" and await _answers_plainly(host, port):
        return "Redis does not speak TLS on this port: check the scheme of REDIS__URL, redis:// is without TLS"
    return None


async def _answers_plainly(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"PING\r\n")
            answer = await reader.read(1)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return answer in (b"+", b"-")


def _sentence(error: BaseException) -> str | None:
    """Return which part of REDIS__URL is wrong; None when Redis does not answer."""
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate of Redis is not trusted ({cause.verify_message}): check ssl_ca_certs of REDIS__URL"
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return f"Redis does not speak TLS as expected ({cause.reason}): check the scheme of REDIS__URL"
    if isinstance(error, AuthenticationError):
        return f"Redis refuses the user or its password ({error}): check REDIS__URL"
    if isinstance(error, ResponseError):
        return f"Redis refuses the connection ({error}): check user, password and database of REDIS__URL"
    return None


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found

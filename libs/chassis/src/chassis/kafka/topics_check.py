"""Readiness: the topics that a service uses exist."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from chassis.aio import Loop, wait_or_stop
from chassis.errors import Unavailable
from chassis.kafka.broker_security import client_options, explain_refusal
from chassis.kafka.publisher import describe
from chassis.settings import KafkaSection
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog

CHECK_TIMEOUT_SECONDS: Final = 5.0
FOUND_INTERVAL_SECONDS: Final = 60.0
MISSING_INTERVAL_SECONDS: Final = 2.0

log = logger("chassis.kafka")


class TopicsCheck(Loop):
    """A component that is not ready while Kafka answers that one of `topics` is missing.

    While no broker answers it is ready: the service works without Kafka, and its events wait in the outbox. But it is
    not ready when the brokers refuse the user, the password or TLS from the start on, because that does not pass by
    itself; once they have accepted the service, a refusal is only logged.
    """

    def __init__(self, section: KafkaSection, topics: Sequence[str]) -> None:
        super().__init__("kafka topics", self._watch)
        self._section = section
        self._options = client_options(section)
        self._topics = topics
        self._missing: list[str] | None = None
        self._accepted = False
        self._refusal: str | None = None
        self._failure_log = RateLimitedLog(log, interval_seconds=60.0)

    async def ready(self) -> bool:
        if self._missing is None:
            raise Unavailable("the topics have not been looked up yet")
        if self._refusal is not None and not self._accepted:
            raise Unavailable(self._refusal)
        if self._missing:
            raise Unavailable(f"kafka lacks the topics {', '.join(self._missing)}")
        return True

    async def _watch(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._missing = await self._find_missing()
            unwell = self._missing or self._refusal
            await wait_or_stop(stop, MISSING_INTERVAL_SECONDS if unwell else FOUND_INTERVAL_SECONDS)

    async def _find_missing(self) -> list[str]:
        admin = AIOKafkaAdminClient(**self._options, request_timeout_ms=int(CHECK_TIMEOUT_SECONDS * 1000))
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                await admin.start()
                missing = sorted(set(self._topics) - set(await admin.list_topics()))
        except Exception as error:  # noqa: BLE001 - what a broker answers must not end the service
            self._refusal = await explain_refusal(self._section)
            reason = self._refusal or describe(error)
            self._failure_log.warning("kafka_topics_unknown", key=type(error).__name__, error=reason)
            return self._missing or []
        else:
            self._accepted, self._refusal = True, None
            return missing
        finally:
            await _close(admin)


async def _close(admin: AIOKafkaAdminClient) -> None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await admin.close()
    except (KafkaError, OSError, TimeoutError):
        log.debug("kafka_admin_not_closed")

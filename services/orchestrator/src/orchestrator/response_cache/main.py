"""Wires the response cache."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.lifecycle import ServiceBuilder
from chassis.settings import RedisSection

from orchestrator.background_tasks import BackgroundTasks
from orchestrator.metrics import CACHE_BYPASSED, SEMANTIC_FAILURES
from orchestrator.reservations.reserve import Reservations
from orchestrator.response_cache.charge import CacheCharges
from orchestrator.response_cache.charge_together import GroupedCharges
from orchestrator.response_cache.grpc import ResponseCacheServicer
from orchestrator.response_cache.look_up import ResponseCache
from orchestrator.response_cache.policy import by_route
from orchestrator.response_cache.purge import PurgeCache, Removals
from orchestrator.response_cache.redis import RedisAnswerStore
from orchestrator.response_cache.retrieval_client import GrpcPromptIndex
from orchestrator.response_cache.semantic import SemanticCache
from orchestrator.response_cache.serve import ChatCache
from orchestrator.response_cache.settings import ResponseCacheSection
from orchestrator.usage.hits import HitRecorder
from orchestrator.usage.ports import HitOutbox
from orchestrator.usage.record import UsageRecorder

MAX_LIFETIME = timedelta(days=61)
"""Longer than the longest time to live and the longest stale use together."""


async def build_response_cache(
    section: ResponseCacheSection,
    redis: RedisSection,
    service: ServiceBuilder,
    retrieval: Channel,
    *,
    reservations: Reservations,
    recorder: UsageRecorder,
    outbox: HitOutbox,
    tasks: BackgroundTasks,
) -> tuple[ChatCache, ResponseCacheServicer]:
    """Open a connection of its own: a large answer must not hold up other commands."""
    multiplexed, scanner = await service.multiplexed_redis(redis), await service.redis(redis)
    store = RedisAnswerStore(multiplexed, scanner, MAX_LIFETIME)
    index = GrpcPromptIndex(retrieval)
    semantic = SemanticCache(index, section.semantic_timeout, _starter(tasks), SEMANTIC_FAILURES.inc)
    cache = ResponseCache(store, section.limits(), on_bypassed=CACHE_BYPASSED.inc)
    hits = HitRecorder(outbox, tasks)
    together = GroupedCharges(reservations.metering, recorder, hits, tasks, reservations.limits.reserve_timeout)
    charges = CacheCharges(reservations, recorder, hits, together)
    chat = ChatCache(cache, by_route(section.policy()), charges, semantic)
    return chat, ResponseCacheServicer(PurgeCache(store, Removals(store, _starter(tasks)), (index,)))


def _starter(tasks: BackgroundTasks) -> Callable[[Coroutine[Any, Any, object]], object]:
    return lambda work: tasks.start(work, ("", new_id("cache_")))

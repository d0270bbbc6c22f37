import os
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from chassis.redis import MultiplexedRedis, Redis
from chassis.settings import RedisSection
from orchestrator.response_cache.redis import RedisAnswerStore

from services.orchestrator.tests.answer_store_contract import AnswerStoreContract


class TestRedisAnswerStore(AnswerStoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[RedisAnswerStore]:
        section = RedisSection(url=os.environ["ARGOSY_REDIS_URL"])
        async with MultiplexedRedis(section) as multiplexed, Redis(section) as scanner:
            yield RedisAnswerStore(multiplexed, scanner, timedelta(days=1))

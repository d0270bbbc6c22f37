"""Redis: fast or not at all. What it holds can be lost, so a slow Redis is treated like none.

`MultiplexedRedis` is for what every request does, `Redis` for everything else.
"""

from chassis.redis.breaker import Breaker
from chassis.redis.client import Redis
from chassis.redis.multiplexed import MultiplexedRedis, Script
from chassis.redis.subscription import Subscription

__all__ = ["Breaker", "MultiplexedRedis", "Redis", "Script", "Subscription"]

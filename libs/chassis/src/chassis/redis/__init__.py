"""Redis with short timeouts: what it holds can be lost, so a slow Redis is treated like none.

`MultiplexedRedis` is for commands of every request, `Redis` for everything else.
"""

from chassis.redis.check import RedisCheck
from chassis.redis.multiplexed import MultiplexedRedis, Script
from chassis.redis.pooled import Redis, Subscription

__all__ = ["MultiplexedRedis", "Redis", "RedisCheck", "Script", "Subscription"]

"""Redis: fast or not at all. What it holds can be lost, so a slow Redis is treated like none."""

from chassis.redis.breaker import Breaker
from chassis.redis.client import Redis
from chassis.redis.subscription import Subscription

__all__ = ["Breaker", "Redis", "Subscription"]

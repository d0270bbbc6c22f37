"""Rate limits in Redis: both buckets of a request in one round trip, by Redis' own clock."""

from chassis.errors import Unavailable
from chassis.redis import MultiplexedRedis, Script
from chassis.telemetry import logger
from redis.exceptions import ResponseError

from gateway.domain.rates import MINUTE_US, Rates, Taken, cost_us
from gateway.metrics import RATE_CHECKS

# A bucket is the time when it will be full again. A time further away than a bucket's size was written before Redis'
# clock was set back, and means nothing. `tostring` would round it, so it is written with all its digits.
TAKE = Script(f"""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full_at = redis.call('MGET', KEYS[1], KEYS[2])
local used, allowed = {{}}, 1
for place = 1, 2 do
    local cost = tonumber(ARGV[place])
    used[place] = 0
    if cost > 0 then
        local ahead = (tonumber(full_at[place] or 0) or 0) - now
        if ahead > 0 and ahead <= {MINUTE_US} then used[place] = ahead end
        if used[place] + cost > {MINUTE_US} then allowed = 0 end
    end
end
if allowed == 1 then
    for place = 1, 2 do
        local cost = tonumber(ARGV[place])
        if cost > 0 then
            used[place] = used[place] + cost
            local at = string.format('%.0f', now + used[place])
            redis.call('SET', KEYS[place], at, 'PX', math.ceil(used[place] / 1000))
        end
    end
end
return {{allowed, used[1], used[2]}}
""")

log = logger("gateway")
_checked = RATE_CHECKS.labels("checked")
_unavailable = RATE_CHECKS.labels("unavailable")


class RedisRateLimits:
    """`RateLimits` that all gateways share."""

    def __init__(self, redis: MultiplexedRedis) -> None:
        self._redis = redis

    async def take(self, tenant_id: str, key_id: str, rates: Rates) -> Taken:
        """Let one request in if both buckets have room for it, else take from neither. Raises Unavailable."""
        # The braces keep a tenant's buckets on one node of a cluster, as a script wants them.
        of_tenant = f"argosy:rates:{{{tenant_id}}}"
        try:
            allowed, key_used, tenant_used = await self._redis.run(
                TAKE, (f"{of_tenant}:{key_id}", of_tenant), (cost_us(rates.key), cost_us(rates.tenant))
            )
        except Unavailable:
            _unavailable.inc()
            raise
        except ResponseError as error:
            _unavailable.inc()
            log.error("rates_not_checked", error=str(error))  # noqa: TRY400 - the answer says it all
            raise Unavailable("Redis does not check rates.") from error
        _checked.inc()
        return Taken(allowed == 1, key_used, tenant_used)

"""Rate limits in Redis: both buckets of a request in one round trip, by the clock of Redis."""

from chassis.errors import Unavailable
from chassis.redis import MultiplexedRedis, Script
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog
from redis.exceptions import ResponseError

from gateway.metrics import RATE_LIMIT_CHECKS
from gateway.rate_limits.limiter import MINUTE_US, ClassRateLimits, RequestClass, TakeResult, request_cost_us

# A bucket is the time when it is full again. A time more than a minute away was written before Redis' clock was set
# back; it counts as a full bucket. `tostring` would round the time, so all its digits are formatted.
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

failure_log = RateLimitedLog(logger("gateway"))
_checked = RATE_LIMIT_CHECKS.labels("checked")
_unavailable = RATE_LIMIT_CHECKS.labels("unavailable")


class RedisRateLimitStore:
    """`RateLimitStore` that all gateways share."""

    def __init__(self, redis: MultiplexedRedis) -> None:
        self._redis = redis

    async def take(self, tenant_id: str, key_id: str, kind: RequestClass, limits: ClassRateLimits) -> TakeResult:
        # The braces are a hash tag: a script needs all its keys on one node of a cluster.
        tenant_bucket = f"argosy:rates:{{{tenant_id}}}:{kind}"
        try:
            allowed, key_used, tenant_used = await self._redis.run(
                TAKE,
                (f"{tenant_bucket}:{key_id}", tenant_bucket),
                (request_cost_us(limits.key), request_cost_us(limits.tenant)),
            )
        except Unavailable:
            _unavailable.inc()
            raise
        except ResponseError as error:
            _unavailable.inc()
            failure_log.warning("rate_limit_check_failed", key="script", error=str(error))
            raise Unavailable("Redis does not run the rate limit script.") from error
        _checked.inc()
        return TakeResult(allowed == 1, key_used, tenant_used)

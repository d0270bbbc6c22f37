"""Cached answers in Redis: one command to look, which also takes the lock of an empty key, and one to keep.

Keys begin with the tenant: `argosy:cache:<tenant>:<model>:<digest>` for answers, with `:lock` for its lock. Marks of
purges have the same prefix; where a mark is for all tenants or models, there is a `*`. Model names are hashed, because
they may contain any character.
"""

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from functools import lru_cache
from hashlib import blake2b
from time import perf_counter
from typing import Any, Final

from chassis.errors import Unavailable
from chassis.redis import MultiplexedRedis, Redis, Script
from redis.exceptions import NoScriptError, RedisError

from orchestrator.metrics import CACHE_READ_SECONDS, CACHE_STORE_FAILURES
from orchestrator.response_cache.model import CacheKey
from orchestrator.response_cache.ports import Looked, Purged, Turn

PREFIX: Final = "argosy:cache:"
ANY: Final = "*"
SCAN_COUNT: Final = 500
"""Keys that Redis looks at in one step of a removal."""
SCAN_PAUSE_SECONDS: Final = 0.005
"""Between two steps: a removal takes a small part of the time of a Redis that others use too."""

# The time is Redis' own, so that ages do not depend on the clocks of replicas.
_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
# Returns the value of a Turn. A lock with `*` in place of a token is for all.
_TAKE = """
local function take()
    if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
    if redis.call('GET', KEYS[1]) == '*' then return 3 end
    return 2
end
"""
_FIND = Script(
    _NOW
    + _TAKE
    + """
local found = redis.call('MGET', unpack(KEYS, 2))
local turn = 0
if not found[1] and ARGV[2] ~= '0' then turn = take() end
return {now, turn, found[1], found[2], found[3], found[4]}
"""
)
_LOCK = Script(_TAKE + "return take()")
_GIVE_TO_ALL = Script(
    """
local holder = redis.call('GET', KEYS[1])
if not holder or holder == ARGV[1] or holder == '*' then redis.call('SET', KEYS[1], '*', 'PX', ARGV[2]) end
"""
)
_RENEW = Script("if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end")
_UNLOCK = Script("if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end")
_PUT = Script(
    """
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local holder = redis.call('GET', KEYS[2])
if holder == ARGV[3] or holder == '*' then redis.call('DEL', KEYS[2]) end
"""
)
_PURGE = Script(_NOW + "redis.call('SET', KEYS[1], now, 'PX', ARGV[1])")


class RedisAnswerStore:
    """Answers of all tenants."""

    def __init__(self, redis: MultiplexedRedis, scanner: Redis, max_lifetime: timedelta) -> None:
        """`scanner` is for removals. Marks of purges are kept for `max_lifetime`, longer than any answer."""
        self._redis = redis
        self._scanner = scanner
        self._mark_ms = _milliseconds(max_lifetime)

    async def find(self, key: CacheKey, token: str, lease: timedelta | None) -> Looked:
        entry, lock, model = _names(key)
        lease_ms = 0 if lease is None else _milliseconds(lease)
        began = perf_counter()
        try:
            keys = (lock, entry, *_marks(key, model))
            now, turn, data, *marks = await self._redis.run(_FIND, keys, (token, lease_ms))
        except RedisError as error:
            raise _refused(error) from error
        finally:
            CACHE_READ_SECONDS.observe(perf_counter() - began)
        return Looked(int(now), _latest(marks), data, _TURNS[turn])

    async def lock(self, key: CacheKey, token: str, lease: timedelta) -> Turn:
        _, lock, _ = _names(key)
        return Turn(await _checked(self._redis.run(_LOCK, (lock,), (token, _milliseconds(lease)))))

    async def purged_ms(self, key: CacheKey) -> int:
        return _latest(await _checked(self._redis.send("MGET", *_marks(key, _model_name(key.model)))))

    def renew(self, key: CacheKey, token: str, lease: timedelta) -> None:
        self._forget(_RENEW, (_names(key)[1],), (token, _milliseconds(lease)))

    def put(self, key: CacheKey, data: bytes, ttl: timedelta, token: str) -> None:
        entry, lock, _ = _names(key)
        self._forget(_PUT, (entry, lock), (data, _milliseconds(ttl), token))

    def give_to_all(self, key: CacheKey, token: str, duration: timedelta) -> None:
        self._forget(_GIVE_TO_ALL, (_names(key)[1],), (token, _milliseconds(duration)))

    def unlock(self, key: CacheKey, token: str) -> None:
        self._forget(_UNLOCK, (_names(key)[1],), (token,))

    async def purge(self, purged: Purged) -> None:
        mark = _mark(purged.tenant_id or ANY, ANY if purged.model is None else _model_name(purged.model))
        await _checked(self._redis.run(_PURGE, (mark,), (self._mark_ms,)))

    async def remove(self, purged: Collection[Purged]) -> int:
        wanted = {(one.tenant_id, None if one.model is None else _model_name(one.model)) for one in purged}
        removed, cursor, client = 0, 0, self._scanner.client
        while True:
            try:
                cursor, found = await client.scan(cursor, match=_pattern(purged), count=SCAN_COUNT)
                names = [name for name in found if _is_wanted(name, wanted)]
                if names:
                    removed += await client.unlink(*names)
            except RedisError as error:
                raise Unavailable(f"redis cannot remove answers: {error}") from error
            if not cursor:
                return removed
            await asyncio.sleep(SCAN_PAUSE_SECONDS)

    def _forget(self, script: Script, keys: tuple[str, ...], arguments: tuple[bytes | str | int, ...]) -> None:
        """Send a script without a task. Redis has it, or gets its source after the first refusal."""

        def on_reply(reply: asyncio.Future[Any]) -> None:
            if reply.cancelled() or reply.exception() is None:
                return
            if isinstance(reply.exception(), NoScriptError):
                self._send("EVAL", script.source, len(keys), *keys, *arguments).add_done_callback(_count_failure)
            else:
                CACHE_STORE_FAILURES.inc()

        self._send("EVALSHA", script.digest, len(keys), *keys, *arguments).add_done_callback(on_reply)

    def _send(self, *command: bytes | str | int) -> asyncio.Future[Any]:
        try:
            return self._redis.send(*command)
        except Unavailable as error:
            failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed


def _count_failure(reply: asyncio.Future[Any]) -> None:
    if not reply.cancelled() and reply.exception() is not None:
        CACHE_STORE_FAILURES.inc()


async def _checked(reply: Awaitable[Any]) -> Any:
    """Wait for a reply; an error that Redis replies counts as its absence."""
    try:
        return await reply
    except RedisError as error:
        raise _refused(error) from error


def _refused(error: RedisError) -> Unavailable:
    return Unavailable(f"redis refuses a command of the cache: {error}")


def _names(key: CacheKey) -> tuple[str, str, str]:
    """Return the names of an entry, its lock, and its hashed model."""
    model = _model_name(key.model)
    entry = f"{PREFIX}{key.tenant_id}:e:{model}:{key.digest}"
    return entry, f"{entry}:lock", model


def _mark(tenant_id: str, model: str) -> str:
    return f"{PREFIX}{tenant_id}:purged:{model}"


_ALL_PURGED: Final = _mark(ANY, "")
_TURNS: Final = {turn.value: turn for turn in Turn}


def _marks(key: CacheKey, model: str) -> tuple[str, str, str]:
    """Return the names of the purges that concern a key, whose hashed model is `model`."""
    own = _mark(key.tenant_id, "")
    return own + ANY, own + model, f"{_ALL_PURGED}{model}"


def _latest(marks: Sequence[bytes | None]) -> int:
    latest = 0
    for mark in marks:
        if mark:
            latest = max(latest, int(mark))
    return latest


@lru_cache(maxsize=1024)
def _model_name(model: str) -> str:
    return blake2b(model.encode(), digest_size=8).hexdigest()


def _pattern(purged: Collection[Purged]) -> str:
    """Return what all names match that are wanted, and more if they are of several tenants or models."""
    tenants, models = {one.tenant_id for one in purged}, {one.model for one in purged}
    tenant_id, model = (values.pop() if len(values) == 1 else None for values in (tenants, models))
    name = ANY if model is None else _model_name(model)
    return f"{PREFIX}{_escaped(tenant_id) if tenant_id else ANY}:e:{name}:{ANY}"


def _is_wanted(key: bytes | str, wanted: AbstractSet[tuple[str | None, str | None]]) -> bool:
    """Whether this is the name of such an answer. Locks are left: who holds one makes the answer for all."""
    name = key if isinstance(key, str) else key.decode()
    tenant_id, _, rest = name.removeprefix(PREFIX).rpartition(":e:")
    model, _, digest = rest.partition(":")
    return ":" not in digest and not wanted.isdisjoint(
        {(tenant_id, model), (tenant_id, None), (None, model), (None, None)}
    )


def _escaped(tenant_id: str) -> str:
    return "".join(f"\\{character}" if character in "*?[]\\" else character for character in tenant_id)


def _milliseconds(duration: timedelta) -> int:
    return max(1, int(duration.total_seconds() * 1000))

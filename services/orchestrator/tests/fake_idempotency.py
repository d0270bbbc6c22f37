"""Idempotency keys in memory."""

from datetime import UTC, datetime, timedelta

from orchestrator.idempotency.model import KEPT_FOR, IdempotencyKey


class FakeIdempotencyKeys:
    """Implements `IdempotencyKeys`; time passes by `pass_time` only."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self._ids: dict[IdempotencyKey, tuple[str, datetime]] = {}

    async def pass_time(self, duration: timedelta) -> None:
        self.now += duration

    async def resolve(self, key: IdempotencyKey, new_id: str) -> str:
        if key not in self._ids or self._ids[key][1] <= self.now:
            self._ids[key] = (new_id, self.now + KEPT_FOR)
        return self._ids[key][0]

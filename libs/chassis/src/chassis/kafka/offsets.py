"""The offsets of one partition whose records are claimed in any order."""

from __future__ import annotations

from typing import Final

from chassis.aio.loops import Backoff
from chassis.kafka.record import Record

MAX_RETRY_SECONDS: Final = 5.0


class PartitionOffsets:
    """Which records of a partition are not claimed yet, since it was assigned."""

    __slots__ = ("_unclaimed", "assigned", "committed", "next")

    def __init__(self) -> None:
        self._unclaimed: dict[int, None] = {}  # in the order of the offsets
        self.next = -1
        """The offset after the last record."""
        self.committed = -1
        """Where a consumer starts that the partition is assigned to next, as far as this one knows; -1: it does not."""
        self.assigned = True
        """False once a rebalance has begun: its records come again, to this consumer or another."""

    def add(self, offset: int) -> None:
        """Note a record that was fetched."""
        self._unclaimed[offset] = None
        self.next = offset + 1

    def settle(self, offset: int) -> bool:
        """Note that a record is claimed; return whether more can be committed."""
        before = self.claimed_up_to
        self._unclaimed.pop(offset, None)
        return self.claimed_up_to > before

    @property
    def claimed_up_to(self) -> int:
        """The offset to commit: that of the lowest unclaimed record, else the one after the last record."""
        return next(iter(self._unclaimed), self.next)


class Taken:
    """A record that was fetched, the offsets of its partition, and from when it is taken."""

    __slots__ = ("at", "backoff", "offsets", "record")

    def __init__(self, record: Record, offsets: PartitionOffsets, at: float) -> None:
        self.record = record
        self.offsets = offsets
        self.at = at
        self.backoff = Backoff(min_seconds=0.2, max_seconds=MAX_RETRY_SECONDS)

"""Additions to asyncio: shared timeouts, cancel scopes, and loops that run until the service stops."""

from chassis.aio.claimed import heartbeat, run_claimed
from chassis.aio.loops import Backoff, ConnectionLog, Loop, periodic, wait_or_stop
from chassis.aio.timeouts import CancelScope, SharedTimeout, TimedOut

__all__ = [
    "Backoff",
    "CancelScope",
    "ConnectionLog",
    "Loop",
    "SharedTimeout",
    "TimedOut",
    "heartbeat",
    "periodic",
    "run_claimed",
    "wait_or_stop",
]

"""Additions to asyncio: shared timeouts, cancel scopes, and what loops need that run until the service stops."""

from chassis.aio.loops import Backoff, ConnectionLog, periodic, wait_or_stop
from chassis.aio.timeouts import CancelScope, SharedTimeout, TimedOut

__all__ = ["Backoff", "CancelScope", "ConnectionLog", "SharedTimeout", "TimedOut", "periodic", "wait_or_stop"]

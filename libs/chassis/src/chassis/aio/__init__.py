"""Additions to asyncio: shared timeouts, cancel scopes, periodic work, and logs of connection changes."""

from chassis.aio.connection_log import ConnectionLog
from chassis.aio.periodic import periodic, wait_or_stop
from chassis.aio.timeouts import CancelScope, SharedTimeout, TimedOut

__all__ = ["CancelScope", "ConnectionLog", "SharedTimeout", "TimedOut", "periodic", "wait_or_stop"]

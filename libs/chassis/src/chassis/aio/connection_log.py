"""Log lines for the loss and the recovery of a connection."""

from __future__ import annotations

from typing import Any

from chassis.telemetry.logs import Logger


class ConnectionLog:
    """Logs changes between connected and not connected, so that an outage of an hour is two lines.

    It starts as connected, so the first success is not logged. `lost` and `recovered` are the log events.
    """

    def __init__(self, log: Logger, lost: str, recovered: str, **fields: Any) -> None:
        self._log = log
        self._lost = lost
        self._recovered = recovered
        self._fields = fields
        self.connected = True

    def set(self, *, connected: bool, **fields: Any) -> None:
        """Report the current state; `fields` are logged if it has changed."""
        if connected == self.connected:
            return
        self.connected = connected
        if connected:
            self._log.info(self._recovered, **self._fields, **fields)
        else:
            self._log.warning(self._lost, **self._fields, **fields)

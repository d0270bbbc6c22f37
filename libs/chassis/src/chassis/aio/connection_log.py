"""Says that a connection was lost, or is back, once."""

from __future__ import annotations

from typing import Any

from chassis.telemetry.logs import Logger


class ConnectionLog:
    """Logs changes between connected and not connected, so that an outage of an hour is two lines.

    It starts as connected: only a failure is news. `lost` and `recovered` are the log events.
    """

    def __init__(self, log: Logger, lost: str, recovered: str, **fields: Any) -> None:
        self._log = log
        self._lost = lost
        self._recovered = recovered
        self._fields = fields
        self.connected = True

    def set(self, *, connected: bool, **fields: Any) -> None:
        """Note the state now; `fields` go into the line if it has changed."""
        if connected == self.connected:
            return
        self.connected = connected
        if connected:
            self._log.info(self._recovered, **self._fields, **fields)
        else:
            self._log.warning(self._lost, **self._fields, **fields)

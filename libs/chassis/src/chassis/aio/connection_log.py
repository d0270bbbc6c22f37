"""Log lines for the loss and the recovery of a connection."""

from __future__ import annotations

from time import monotonic
from typing import Any

from chassis.telemetry.logs import Logger

INTERVAL_SECONDS = 10.0


class ConnectionLog:
    """Logs changes between connected and not connected, so that an outage of an hour is two lines.

    It starts as connected, so the first success is not logged. `lost` and `recovered` are the log events. A changed
    reason of the outage is logged too. A connection that is lost again and again logs one loss per interval; the line
    says how many were left out as `suppressed`.
    """

    def __init__(self, log: Logger, lost: str, recovered: str, **fields: Any) -> None:
        self._log = log
        self._lost = lost
        self._recovered = recovered
        self._fields = fields
        self._logged: dict[str, Any] | None = None  # the fields of the loss that was logged, while it lasts
        self._next = 0.0
        self._suppressed = 0
        self.connected = True

    def set(self, *, connected: bool, **fields: Any) -> None:
        """Report the current state; `fields` are logged if it has changed."""
        if connected:
            if self._logged is not None:
                self._log.info(self._recovered, **self._fields, **fields)
            self._logged, self.connected = None, True
        elif self.connected or fields != self._logged:
            self._log_loss(fields)
            self.connected = False

    def _log_loss(self, fields: dict[str, Any]) -> None:
        now = monotonic()
        if now < self._next:
            self._suppressed += self.connected
            return
        suppressed = {"suppressed": self._suppressed} if self._suppressed else {}
        self._log.warning(self._lost, **self._fields, **fields, **suppressed)
        self._logged, self._next, self._suppressed = fields, now + INTERVAL_SECONDS, 0

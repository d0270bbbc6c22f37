"""Traces: our own few spans, sent by OTLP where an endpoint is set; next to nothing where none is."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from chassis.settings import TelemetrySection
from chassis.telemetry.logs import configure_logs, stop_gathering
from chassis.telemetry.spans import record_with

FLUSH_SECONDS = 2.0


class Telemetry:
    """Logs and traces of a process: set up when made, flushed by `close`."""

    def __init__(self, service: str, section: TelemetrySection) -> None:
        configure_logs(section.log_level, service, gather=True)
        self.service = service
        self._recorder = None
        if section.otlp_endpoint:
            # Imported here: without tracing, the SDK and the exporter would be most of a process' start.
            from chassis.telemetry.otlp import OtlpRecorder  # noqa: PLC0415

            self._recorder = OtlpRecorder(service, section.otlp_endpoint, section.sample_ratio)
            record_with(self._recorder)

    async def close(self) -> None:
        """Send what is left, for two seconds at most."""
        stop_gathering()
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        record_with(None)
        done, loop = asyncio.Event(), asyncio.get_running_loop()

        def flush() -> None:
            recorder.close()
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(done.set)

        # A daemon: a collector that does not answer must not keep the process from ending.
        threading.Thread(target=flush, daemon=True, name="flush-traces").start()
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await done.wait()
        except TimeoutError:
            return

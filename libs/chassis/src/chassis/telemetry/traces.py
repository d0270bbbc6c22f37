"""Start and end of telemetry: logs always, traces by OTLP when an endpoint is configured."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from chassis.settings import TelemetrySection
from chassis.telemetry.libraries import limit_library
from chassis.telemetry.logs import configure_logs, stop_buffering
from chassis.telemetry.spans import set_tracer

FLUSH_TIMEOUT_SECONDS = 2.0


class Telemetry:
    """Logs and traces of a process; `close` flushes them."""

    def __init__(self, service: str, section: TelemetrySection) -> None:
        configure_logs(section.log_level, service, buffered=True)
        # `chassis.kafka` logs an outage and its end; aiokafka alone knows why a broker refused.
        limit_library("aiokafka")
        self.service = service
        self._tracer = None
        if section.otlp_endpoint:
            # Imported only with tracing: the SDK and the exporter take most of a process's start time.
            from chassis.telemetry.otlp import OtlpTracer  # noqa: PLC0415

            self._tracer = OtlpTracer(service, section.otlp_endpoint, section.sample_ratio)
            set_tracer(self._tracer)

    async def close(self) -> None:
        """Send the remaining spans, within two seconds."""
        stop_buffering()
        tracer, self._tracer = self._tracer, None
        if tracer is None:
            return
        set_tracer(None)
        done, loop = asyncio.Event(), asyncio.get_running_loop()

        def flush() -> None:
            tracer.close()
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(done.set)

        # A daemon thread, so that an unresponsive collector does not keep the process from ending.
        threading.Thread(target=flush, daemon=True, name="flush-traces").start()
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_SECONDS):
                await done.wait()
        except TimeoutError:
            return

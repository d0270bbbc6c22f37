"""Infer: run the plan on a worker, and forward its chunks until it is finished."""

import asyncio
from datetime import timedelta
from typing import Any

from chassis.errors import ArgosyError, DeadlineExceeded

from orchestrator.chat.model import Stopped
from orchestrator.chat.stream import StreamBuffer
from orchestrator.errors import is_refusal
from orchestrator.workers.model import Finished, Plan, Started, unknown_usage
from orchestrator.workers.ports import InferenceCall, WorkerClient
from orchestrator.workers.run import checked, worker_unavailable


async def infer(plan: Plan, buffer: StreamBuffer[Any], *, worker: WorkerClient, abort_timeout: timedelta) -> Finished:
    """Run `plan` and put its chunks into `buffer` as they come. Errors are part of the result, never raised.

    When the client disconnects, the worker gets a stop, and has `abort_timeout` to report what was used. When the
    worker is lost, the result has one attempt of unknown usage.
    """
    refusal = await worker_unavailable(worker, plan.deadline)
    if refusal is None and buffer.disconnected:
        # A provider call that is not needed any more would cost money all the same.
        refusal = Stopped("the client went away before a worker had its request")
    if refusal is not None:
        return Finished((), refusal)
    forwarder = _Forwarder(buffer)
    try:
        async with asyncio.timeout(None) as limit, worker.infer(plan) as call:
            buffer.on_disconnect(lambda: _abort(call, limit, abort_timeout))
            await forwarder.run(call)
    except TimeoutError:
        error: ArgosyError = DeadlineExceeded("the worker did not finish in time")
    except ArgosyError as raised:
        error = raised
    if forwarder.finished is not None:
        # It counts however the call itself ended.
        return checked(forwarder.finished, len(plan.candidates))
    if is_refusal(error) and not forwarder.started:
        return Finished((), error)
    return unknown_usage(error, forwarder.candidate)


class _Forwarder:
    """Forwards chunks from a worker to a buffer, and keeps how far the plan came."""

    def __init__(self, buffer: StreamBuffer[Any]) -> None:
        self._buffer = buffer
        self.started = False
        self.candidate = 0
        self.finished: Finished | None = None

    async def run(self, call: InferenceCall) -> None:
        while self.finished is None:
            event = await call.read()
            if isinstance(event, Finished):
                self.finished = event
            elif isinstance(event, Started):
                self.started, self.candidate = True, event.candidate
            else:
                self.started = True
                await self._buffer.put(event.payloads)


def _abort(call: InferenceCall, limit: asyncio.Timeout, timeout: timedelta) -> None:
    limit.reschedule(asyncio.get_running_loop().time() + timeout.total_seconds())
    call.stop()

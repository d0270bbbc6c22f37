"""Keep-alives hold no payload, and are life all the same: they restart the idle time, not the deadline."""

import asyncio

import pytest
from chassis.clock import SystemClock
from inference_worker.plans.model import AttemptOutcome
from inference_worker.plans.run import PlanRun
from inference_worker.providers.isolation import TenantIsolation
from inference_worker.providers.openai.chat import OpenaiProvider
from inference_worker.providers.ports import Upstream
from raw_http_server import CHUNKED
from raw_http_server import RawHttpServer as _RawHttpServer
from worker_fakes import FakeCounter, FakeObserver, RecordedRun, a_candidate, a_plan, record

CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "ab"}, "finish_reason": "stop"}]}\n\n'
BODY = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop"}]}'
IDLE = 0.3
STEP = 0.1


def framed(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


class SlowServer(_RawHttpServer):
    """Sends its pieces with pauses shorter than the idle time."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        try:
            for piece in self.pieces:
                writer.write(piece)
                await asyncio.sleep(STEP)
        except ConnectionError:
            pass
        finally:
            writer.close()


async def run_plan(*pieces: bytes, stream: bool, content_type: bytes, deadline: float = 60) -> RecordedRun:
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-type: " + content_type + b"\r\n\r\n")
    async with SlowServer(head, *map(framed, pieces), b"0\r\n\r\n").client() as client:
        provider = TenantIsolation(OpenaiProvider(client))
        plan = a_plan(
            a_candidate(stream=stream), stream=stream, first_byte_timeout=IDLE, idle_timeout=IDLE, deadline=deadline
        )
        upstreams = {"fake": Upstream(FakeCounter(), provider=provider)}
        return await record(PlanRun(plan, upstreams=upstreams, clock=SystemClock(), observer=FakeObserver()))


@pytest.mark.parametrize("keep_alive", [b": OPENROUTER PROCESSING\n\n", b"\n", b"event: ping\ndata: {}\n\n"])
async def test_keep_alives_before_and_within_a_stream_restart_the_idle_time(keep_alive: bytes):
    waits = [keep_alive] * 10
    pieces = (*waits, CHUNK, *waits, b"data: [DONE]\n\n")
    recorded = await run_plan(*pieces, stream=True, content_type=b"text/event-stream")

    assert recorded.finished.error is None
    assert recorded.text == "ab"


async def test_blank_lines_before_a_body_restart_the_idle_time():
    recorded = await run_plan(*[b"\n"] * 10, BODY[:20], BODY[20:], stream=False, content_type=b"application/json")

    assert recorded.finished.error is None
    assert recorded.text == "ab"


@pytest.mark.parametrize("stream", [True, False])
async def test_keep_alives_do_not_move_the_deadline(stream: bool):
    recorded = await run_plan(*[b"\n"] * 200, stream=stream, content_type=b"text/event-stream", deadline=1)

    assert recorded.finished.attempts[0].outcome is AttemptOutcome.TIMED_OUT

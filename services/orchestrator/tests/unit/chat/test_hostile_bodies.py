"""Bodies that try to get more than what is reserved for them, as a client sends them."""

from __future__ import annotations

import base64

import pytest
from chassis.errors import InvalidRequest
from orchestrator.workers.model import Chunk, Started

from services.orchestrator.tests.fakes import FakeWorkerClient
from services.orchestrator.tests.harness import HELLO, Harness, reported, worker_finished

PAGES = 500
PDF = b"%PDF-1.7\n" + b"<< /Type /Page >>\n" * PAGES


def a_harness() -> Harness:
    return Harness(FakeWorkerClient(Started(0), Chunk([b"{}"]), worker_finished(reported(1, 1))))


@pytest.mark.parametrize(
    "fields",
    [
        *({"models": ["dear"]}, {"service_tier": "priority"}, {"web_search_options": {}}, {"n_cmpl": 4}),
        *({"best_of": 4}, {"api_base": "http://127.0.0.1"}, {"chat_template": "x"}, {"Max_Tokens": 9}, {"N": 4}),
        {"tools": [{"type": "web_search"}]},
    ],
)
async def test_a_field_that_changes_the_call_or_its_price_reaches_no_worker(fields: dict[str, object]) -> None:
    harness = a_harness()

    with pytest.raises(InvalidRequest):
        await harness.generate({**HELLO, **fields})

    assert not harness.worker.plans
    assert not harness.metering.reserved


@pytest.mark.parametrize("kind", ["image_url", "file"])
async def test_a_document_is_bounded_by_its_pages_in_any_wrapping(kind: str) -> None:
    harness = a_harness()
    url = f"data:application/pdf;base64,{base64.b64encode(PDF).decode()}"
    part = {"type": kind, kind: {"url": url} if kind == "image_url" else {"file_data": url}}

    await harness.generate({**HELLO, "messages": [{"role": "user", "content": [part]}]})

    (bound,), _ = harness.metering.reserved["req_1"]
    assert bound.input_tokens >= PAGES * 1_600

"""One trace crosses the fleet, and every log line of a request carries its id."""

import asyncio
import json
from collections import defaultdict

import httpx
import pytest

from tests.fleet.client import Fleet
from tests.telemetry.receiver import Receiver, Span

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("public-api")]

SERVICES = {"gateway", "orchestrator", "metering", "inference-worker", "retrieval"}
EDGES = {  # caller → callee: a span of the callee whose parent is a span of the caller
    ("gateway", "orchestrator"),
    ("orchestrator", "metering"),
    ("orchestrator", "inference-worker"),
    ("orchestrator", "retrieval"),
    ("retrieval", "orchestrator"),
}


async def ask_over_a_document(fleet: Fleet) -> str:
    """Send a chat completion with retrieval, which uses every service; return its request id."""
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_tenant, timeout=60) as http:
        store = (await http.post("/v1/vector_stores", json={"name": "traced"})).json()["id"]
        file = await http.post(
            "/v1/files", files={"file": ("a.txt", b"The argosy sails at dawn.")}, data={"purpose": "assistants"}
        )
        await http.post(f"/v1/vector_stores/{store}/files", json={"file_id": file.json()["id"]})
        async with asyncio.timeout(60):
            while (await http.get(f"/v1/vector_stores/{store}")).json()["file_counts"]["completed"] != 1:
                await asyncio.sleep(0.2)
        body = {
            "model": "smollm2",
            "max_tokens": 8,
            "messages": [{"role": "user", "content": "When does the argosy sail?"}],
            "argosy": {"retrieval": {"vector_store_ids": [store]}},
        }
        answer = await http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-request-id"]


def edges_of(spans: list[Span]) -> set[tuple[str, str]]:
    """The pairs of caller and callee, by the parents of spans."""
    by_id = {span.span_id: span for span in spans}
    return {
        (by_id[span.parent_id].service, span.service)
        for span in spans
        if span.parent_id in by_id and by_id[span.parent_id].service != span.service
    }


async def test_one_trace_crosses_all_five_services(fleet: Fleet, receiver: Receiver) -> None:
    request_id = await ask_over_a_document(fleet)

    async with asyncio.timeout(30):
        while True:
            traces: dict[str, list[Span]] = defaultdict(list)
            for span in list(receiver.spans):
                traces[span.trace_id].append(span)
            mine = [
                spans for spans in traces.values() if any(s.attributes.get("request_id") == request_id for s in spans)
            ]
            if mine and {span.service for span in mine[0]} >= SERVICES and edges_of(mine[0]) >= EDGES:
                break
            await asyncio.sleep(0.2)

    assert len(mine) == 1, "the request's spans are spread over several traces"


async def test_every_log_line_of_a_request_carries_its_id(fleet: Fleet) -> None:
    request_id = await ask_over_a_document(fleet)
    async with asyncio.timeout(30):
        while services_with_lines_of(fleet, request_id) != SERVICES:
            await asyncio.sleep(0.2)


def services_with_lines_of(fleet: Fleet, request_id: str) -> set[str]:
    """The services that have logged lines of the request; all of them carry its id."""
    services: set[str] = set()
    for service in SERVICES:
        for part in fleet.replicas_of(service):  # other tests may have started second ones
            for line in fleet.log_of(part).split("\n")[:-1]:  # the last one may not be complete
                if request_id in line:
                    assert json.loads(line)["request_id"] == request_id, line
                    services.add(service)
    return services

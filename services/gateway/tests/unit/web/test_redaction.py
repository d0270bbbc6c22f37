"""A key that a client puts where no key belongs is in no log line, span, metric or error message."""

import httpx
from chassis.testing.logs import captured_lines
from chassis.testing.traces import recorded_spans
from gateway.auth.api_key import mint_key
from prometheus_client import REGISTRY, generate_latest

from services.gateway.tests.fakes.gateway import GatewayFixture


async def test_a_key_in_a_path_or_query_is_masked_everywhere(
    gateway: GatewayFixture, demo: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    _, key = mint_key("live")
    document = (await demo.get("/openapi.json")).json()
    operations = [(method, path) for path, methods in document["paths"].items() for method in methods]
    operations += [("get", f"/v1/{key}"), ("get", f"/{key}/v1/models")]
    answers = []
    with captured_lines() as lines, recorded_spans() as spans:
        for method, template in operations:
            path = "/".join(key if part.startswith("{") else part for part in template.split("/"))
            client = admin if path.startswith("/admin") else demo
            response = await client.request(method.upper(), path, params={"after": key, key: key})
            answers.append(response.text)

    assert len(lines) >= len(operations)
    secret = key.split("_")[3]
    assert secret not in "".join(answers)
    assert secret not in str(lines)
    assert secret not in "".join(ended.to_json() for ended in spans())
    assert secret not in generate_latest(REGISTRY).decode()

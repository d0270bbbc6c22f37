"""Methods of a path: 405 names all of them, HEAD answers as GET, OPTIONS lists them; 404 is for unknown paths alone."""

from collections import defaultdict

import httpx
import pytest

from services.gateway.tests.fakes.gateway import GatewayFixture, metric

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
MODELS, CHAT = "/v1/models", "/v1/chat/completions"


def allow(response: httpx.Response) -> set[str]:
    return set(response.headers["allow"].split(", "))


async def test_405_names_all_methods_of_every_path(
    demo: httpx.AsyncClient, admin: httpx.AsyncClient, anonymous: httpx.AsyncClient
) -> None:
    document = (await anonymous.get("/openapi.json")).json()
    expected: dict[str, set[str]] = defaultdict(lambda: {"OPTIONS"})
    for path, methods in document["paths"].items():
        expected[path.replace("{", "").replace("}", "")] |= {method.upper() for method in methods}
    for path, methods in expected.items():
        if "GET" in methods:
            methods.add("HEAD")
        client = admin if path.startswith("/admin") else demo
        for method in set(METHODS) - methods:
            response = await client.request(method, path)
            assert (response.status_code, allow(response)) == (405, methods), (method, path)
            assert method == "HEAD" or response.json()["error"]["code"] == "method_not_allowed"
            assert response.headers["x-request-id"]
        options = await client.request("OPTIONS", path)
        assert (options.status_code, allow(options), options.content) == (204, methods, b""), path


@pytest.mark.parametrize("method", METHODS)
async def test_an_unknown_path_is_404_with_every_method(demo: httpx.AsyncClient, method: str) -> None:
    response = await demo.request(method, "/v1/nothing")

    assert response.status_code == 404
    assert "allow" not in response.headers


async def test_head_answers_as_get_without_a_body(demo: httpx.AsyncClient, gateway: GatewayFixture) -> None:
    get, head = await demo.get(MODELS), await demo.head(MODELS)

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    assert (await demo.head("/v1/models/nope")).status_code == 404
    assert (await demo.head(CHAT)).status_code == 405


async def test_head_of_a_file_does_not_transfer_it(demo: httpx.AsyncClient, gateway: GatewayFixture) -> None:
    uploaded = await demo.post("/v1/files", files={"file": ("a.txt", b"contents")}, data={"purpose": "assistants"})
    gateway.retrieval.interrupt_downloads = True  # after the first piece

    response = await demo.head(f"/v1/files/{uploaded.json()['id']}/content")

    assert (response.status_code, response.headers["content-length"], response.content) == (200, "8", b"")


async def test_public_paths_have_their_methods_without_a_key(anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.post("/openapi.json")

    assert (response.status_code, allow(response)) == (405, {"GET", "HEAD", "OPTIONS"})
    assert (await anonymous.head("/openapi.json")).status_code == 200
    assert (await anonymous.request("OPTIONS", MODELS)).status_code == 401


async def test_a_wrong_method_is_counted_under_the_template_of_its_path(demo: httpx.AsyncClient) -> None:
    before = metric("gateway_requests_total", route="/v1/files/{file_id}", status="405")
    await demo.put("/v1/files/file-1")
    assert metric("gateway_requests_total", route="/v1/files/{file_id}", status="405") == before + 1

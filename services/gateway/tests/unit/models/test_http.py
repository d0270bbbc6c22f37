"""`/v1/models`."""

import httpx


async def test_models_are_listed_in_openais_shape(demo: httpx.AsyncClient) -> None:
    body = (await demo.get("/v1/models")).json()

    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["all-minilm-l6-v2", "meta/llama", "smollm2"]
    assert body["data"][2] == {
        "id": "smollm2",
        "object": "model",
        "created": 1767312000,
        "owned_by": "argosy",
        "task": "chat",
    }


async def test_a_model_is_read_by_its_name_which_may_have_a_slash(demo: httpx.AsyncClient) -> None:
    assert (await demo.get("/v1/models/smollm2")).json()["id"] == "smollm2"
    assert (await demo.get("/v1/models/meta/llama")).json()["id"] == "meta/llama"


async def test_an_unknown_model_is_not_found(demo: httpx.AsyncClient) -> None:
    response = await demo.get("/v1/models/gpt-nonesuch")

    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")

"""`POST /v1/embeddings`."""

import struct
from base64 import b64decode

import httpx
import pytest
from chassis.errors import Unavailable
from gateway.domain.inference import EmbedAsk

from services.gateway.tests.fakes.world import World

PATH = "/v1/embeddings"
NUMBERS = [(0.25, -1.5, 0.1), (1.0, 2.0, 3.0)]
VECTORS = [struct.pack("<3f", *numbers) for numbers in NUMBERS]


async def test_vectors_come_as_numbers_with_the_bill(world: World, demo: httpx.AsyncClient) -> None:
    world.inference.embedding = VECTORS

    answer = await demo.post(PATH, json={"model": "mini", "input": ["a", "b"], "dimensions": 3})

    said = answer.json()
    assert [item["index"] for item in said["data"]] == [0, 1]
    assert said["data"][0]["embedding"] == pytest.approx(NUMBERS[0])
    assert said["model"] == "mini"
    assert said["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert said["argosy"]["cost_usd"] == answer.headers["argosy-cost"] == "0.0000123"
    (ask,) = world.inference.asked
    assert ask == EmbedAsk(answer.headers["x-request-id"], "mini", ["a", "b"], 3, ask.deadline)


async def test_vectors_come_as_base64_of_their_floats(world: World, demo: httpx.AsyncClient) -> None:
    world.inference.embedding = VECTORS[:1]

    answer = await demo.post(PATH, json={"model": "mini", "input": "a", "encoding_format": "base64"})

    assert b64decode(answer.json()["data"][0]["embedding"]) == VECTORS[0]


async def test_a_wrong_count_or_half_a_number_is_garbage(world: World, demo: httpx.AsyncClient) -> None:
    for vectors in ([], [b"\0\0\0\0\0"]):
        world.inference.embedding = vectors
        answer = await demo.post(PATH, json={"model": "mini", "input": "a"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_garbage")


async def test_a_refusal_keeps_its_status(world: World, demo: httpx.AsyncClient) -> None:
    world.inference.embedding = Unavailable("away")

    answer = await demo.post(PATH, json={"model": "mini", "input": "a"})

    assert answer.status_code == 503


async def test_bad_input_is_refused_before_anything_is_asked(world: World, demo: httpx.AsyncClient) -> None:
    answer = await demo.post(PATH, json={"model": "mini", "input": [[1, 2]]})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
    assert not world.inference.asked

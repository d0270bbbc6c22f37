"""The unmodified OpenAI SDK for Python works with the fleet, and raises its own typed errors."""

import io
from decimal import Decimal
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("public-api")]

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Echo hello in one short sentence."}]


def test_a_chat_completion_has_its_usage_and_cost(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="smollm2", messages=QUESTION, max_tokens=24)
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert Decimal(raw.headers["argosy-cost"]) > 0
    assert raw.headers["x-request-id"].startswith("req_")


def test_a_streamed_chat_completion_has_chunks_and_ends_with_its_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="smollm2", messages=QUESTION, max_tokens=24, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text
    assert len(chunks) > 2
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert Decimal(chunks[-1].model_extra["argosy"]["cost_usd"]) > 0  # type: ignore[index]


def test_a_stream_without_usage_has_its_cost_in_a_chunk_with_a_choice(
    client: openai.OpenAI,
) -> None:
    stream = client.chat.completions.create(model="smollm2", messages=QUESTION, max_tokens=8, stream=True)
    chunks = list(stream)
    assert all(chunk.choices for chunk in chunks)
    assert Decimal(chunks[-1].model_extra["argosy"]["cost_usd"]) > 0  # type: ignore[index]


def test_embeddings_have_the_models_dimension_and_reflect_similarity(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(
        model="all-minilm-l6-v2", input=["a ship at sea", "a boat on the water", "a tax return"]
    )
    ship, boat, tax = (item.embedding for item in answer.data)
    assert len(ship) == 384
    assert answer.usage.prompt_tokens > 0

    def similarity(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert similarity(ship, boat) > similarity(ship, tax) + 0.2


def test_token_ids_have_the_vectors_of_their_texts(client: openai.OpenAI) -> None:
    texts, ids = ["Hello world", "Hello"], [[9906, 1917], [9906]]
    by_text = client.embeddings.create(model="all-minilm-l6-v2", input=texts)
    by_ids = client.embeddings.create(model="all-minilm-l6-v2", input=ids)
    one = client.embeddings.create(model="all-minilm-l6-v2", input=ids[0])

    assert by_ids.usage == by_text.usage
    assert len(one.data) == 1
    vectors = [[item.embedding for item in answer.data] for answer in (by_text, by_ids, one)]
    for text, same in zip(vectors[0] + vectors[0][:1], vectors[1] + vectors[2], strict=True):
        assert text == pytest.approx(same, abs=1e-5)


@pytest.mark.parametrize("ids", [[[9906], [100_256]], [[9906], []], [-1]])
def test_token_ids_that_mean_nothing_are_refused_with_their_parameter(client: openai.OpenAI, ids: list[Any]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="all-minilm-l6-v2", input=ids)
    assert (refused.value.param or "").startswith("input")


def test_models_are_listed_and_read(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert {"smollm2", "all-minilm-l6-v2"} <= set(names)
    assert client.models.retrieve("smollm2").object == "model"


def test_files_are_stored_listed_page_by_page_read_and_deleted(client: openai.OpenAI) -> None:
    stored = [client.files.create(file=(f"{n}.txt", io.BytesIO(b"x" * n)), purpose="assistants") for n in (1, 2, 3)]
    listed = [file.id for file in client.files.list(limit=2)]  # the SDK follows the cursor
    assert {file.id for file in stored} <= set(listed)
    assert client.files.content(stored[1].id).read() == b"xx"
    for file in stored:
        assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(stored[0].id)


def test_a_question_over_a_vector_store_is_answered_with_numbered_sources(client: openai.OpenAI) -> None:
    store = client.vector_stores.create(name="harbours")
    text = "The harbour of Ragusa lent its name to the argosy, a large merchant ship."
    attached = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("ragusa.md", io.BytesIO(text.encode())), poll_interval_ms=200
    )
    assert attached.status == "completed", attached.last_error
    assert client.vector_stores.retrieve(store.id).file_counts.completed == 1
    assert "Ragusa" in next(iter(client.vector_stores.search(store.id, query="Which harbour?"))).content[0].text

    answer = client.chat.completions.create(
        model="smollm2",
        max_tokens=32,
        messages=[{"role": "user", "content": "Which harbour named the argosy?"}],
        extra_body={"argosy": {"retrieval": {"vector_store_ids": [store.id]}}},
    )
    sources = answer.model_extra["argosy"]["sources"]  # type: ignore[index]
    assert sources[0]["number"] == 1
    assert sources[0]["filename"] == "ragusa.md"
    assert "Ragusa" in sources[0]["text"]

    chunks = list(
        client.chat.completions.create(
            model="smollm2",
            max_tokens=8,
            messages=[{"role": "user", "content": "Which harbour named the argosy?"}],
            extra_body={"argosy": {"retrieval": {"vector_store_ids": [store.id]}}},
            stream=True,
        )
    )
    assert chunks[0].model_extra["argosy"]["sources"][0]["filename"] == "ragusa.md"  # type: ignore[index]
    assert client.vector_stores.delete(store.id).deleted


@pytest.mark.parametrize("key", ["sk-123", "argosy_dev_unknown_secret"])
def test_a_wrong_key_is_an_authentication_error(client: openai.OpenAI, key: str) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key=key).models.list()
    assert caught.value.code == "invalid_api_key"


def test_an_unknown_model_is_a_not_found_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-nonesuch", messages=QUESTION)
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"n": 1000}, "n"),
        ({"temperature": 9}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
    ],
)
def test_a_bad_parameter_is_a_bad_request_error_that_names_it(
    client: openai.OpenAI, change: dict[str, object], param: str
) -> None:
    body: dict[str, object] = {"model": "smollm2", "messages": QUESTION, **change}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", body=body, cast_to=object)
    assert caught.value.param == param
    assert caught.value.code == "invalid_request"

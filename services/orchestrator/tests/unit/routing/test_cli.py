"""The route command: its arguments and its output."""

import argparse

import pytest
from chassis.errors import InvalidRequest
from orchestrator.routing.cli import add_route_arguments, run_route_command
from orchestrator.routing.edit import make_route_entry
from orchestrator.routing.model import Provider, RouteCandidate, RouteEntry, Task, UnknownFields

from services.orchestrator.tests.fakes import FakeRouteStore

DEMO_TABLE = """\
MODEL             TENANT  TASK       CANDIDATES, TRIED IN THIS ORDER
all-minilm-l6-v2  *       embedding  minilm/all-minilm-l6-v2
smollm2           *       chat       local/smollm2-135m-instruct (max_tokens 1024)
"""


@pytest.fixture
def store() -> FakeRouteStore:
    return FakeRouteStore()


async def run(store: FakeRouteStore, *arguments: str) -> str:
    parser = argparse.ArgumentParser()
    add_route_arguments(parser)
    return await run_route_command(store, parser.parse_args(arguments))


async def test_a_route_is_for_chat_and_public_by_default(store: FakeRouteStore) -> None:
    printed = await run(store, "set", "gpt", "openai/gpt-5-mini")

    (entry,) = [entry for entry in await store.entries("*") if entry.model == "gpt"]
    assert (entry.task, entry.candidates) == (Task.CHAT, (RouteCandidate("openai", "gpt-5-mini", 4096, "max_tokens"),))
    assert printed.splitlines()[1] == "gpt    *       chat  openai/gpt-5-mini (max_tokens 4096)"


async def test_every_argument_is_stored(store: FakeRouteStore) -> None:
    await run(
        store,
        *("set", "gpt", "openai/gpt-5", "hub/org/model", "--max-output-tokens", "9"),
        *("--limit-field", "max_completion_tokens", "--tenant", "ten_1"),
    )

    (entry,) = await store.entries("ten_1")
    assert entry.candidates == (
        RouteCandidate("openai", "gpt-5", 9, "max_completion_tokens"),
        RouteCandidate("hub", "org/model", 9, "max_completion_tokens"),
    )


async def test_a_candidate_may_get_unknown_fields_and_have_a_providers_rules(store: FakeRouteStore) -> None:
    printed = await run(store, "set", "gpt", "own/1", "--unknown-fields", "pass", "--provider", "gemini")

    (entry,) = [entry for entry in await store.entries("*") if entry.model == "gpt"]
    (candidate,) = entry.candidates
    assert (candidate.unknown_fields, candidate.provider) == (UnknownFields.PASS, Provider.GEMINI)
    assert "own/1 (max_tokens 4096, unknown fields pass, provider gemini)" in printed


async def test_an_embedding_has_no_limit_on_its_output(store: FakeRouteStore) -> None:
    await run(store, "set", "embedder", "a/1", "--task", "embedding", "--tenant", "ten_1")

    (entry,) = await store.entries("ten_1")
    assert (entry.task, entry.candidates) == (Task.EMBEDDING, (RouteCandidate("a", "1", 0),))


async def test_routes_are_listed_as_a_table(store: FakeRouteStore) -> None:
    assert await run(store, "list") == DEMO_TABLE
    assert await run(store, "list", "--tenant", "ten_1") == "no routes\n"


async def test_a_hidden_model_is_listed_as_such(store: FakeRouteStore) -> None:
    await store.put(RouteEntry("ten_1", "smollm2", Task.CHAT, ()))

    assert "none: the model is hidden from this tenant" in await run(store, "list", "--tenant", "ten_1")


async def test_removing_says_what_happened(store: FakeRouteStore) -> None:
    assert await run(store, "remove", "smollm2") == "removed the route smollm2 of all tenants\n"
    assert await run(store, "remove", "smollm2") == "there is no route smollm2 of all tenants\n"
    assert await run(store, "remove", "smollm2", "--tenant", "ten_1") == "there is no route smollm2 of ten_1\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("set", "", "a/1"), "'' cannot be a model's name"),
        (("set", "two words", "a/1"), "'two words' cannot be a model's name"),
        (("set", "x" * 257, "a/1"), "1 to 256 characters"),
        (("remove", "line\nbreak"), "cannot be a model's name"),
        (("set", "gpt", "a/1", "gpt-5-mini"), "'gpt-5-mini' is no candidate: .* as in openai/gpt-5-mini"),
        (("set", "gpt", "/gpt-5"), "'/gpt-5' is no candidate"),
        (("set", "gpt", "openai/"), "'openai/' is no candidate"),
        (("set", "gpt", "open ai/gpt"), "'open ai/gpt' is no candidate"),
        (("set", "gpt", "a/" + "1" * 255), "is no candidate"),
        (("set", "gpt", "a/1", "--max-output-tokens", "0"), "from 1 to 10000000, not 0"),
        (("set", "gpt", "a/1", "--max-output-tokens", "10000001"), "not 10000001"),
        (("set", "e", "a/1", "--task", "embedding", "--max-output-tokens", "5"), "The task embedding writes no tokens"),
        (
            ("set", "e", "a/1", "--task", "embedding", "--limit-field", "max_tokens"),
            "The task embedding writes no tokens",
        ),
        (("set", "e", "a/1", "--task", "embedding", "--provider", "openai"), "The task embedding has no fields"),
        (("set", "gpt", "a/1", "--tenant", "acme"), "'acme' is no tenant: an id begins with ten_"),
        (("set", "gpt", "a/1", "--tenant", "ten_"), "'ten_' is no tenant"),
        (("list", "--tenant", "acme"), "GET /admin/v1/tenants"),
        (("remove", "gpt", "--tenant", ""), "'' is no tenant"),
    ],
)
async def test_invalid_arguments_are_refused_and_change_nothing(
    store: FakeRouteStore, arguments: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        await run(store, *arguments)

    assert await run(store, "list") == DEMO_TABLE


@pytest.mark.parametrize(
    "arguments",
    [(), ("set", "gpt"), ("set", "gpt", "a/1", "--task", "poetry"), ("set", "gpt", "a/1", "--limit-field", "limit")],
)
async def test_an_incomplete_or_unknown_command_is_a_usage_error(
    store: FakeRouteStore, arguments: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        await run(store, *arguments)


def test_a_route_without_candidates_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="needs a candidate"):
        make_route_entry("gpt", [])

"""What operators say about routes, and what they are told."""

import argparse

import pytest
from chassis.errors import InvalidRequest
from orchestrator.api.route_command import edit_routes, route_arguments
from orchestrator.domain.route_entry import route_entry
from orchestrator.domain.routes import RouteCandidate, Task

from services.orchestrator.tests.fakes import FakeRouteBook, FakeRouteEditor

SEEDED = """\
MODEL             TENANT  TASK       CANDIDATES, TRIED IN THIS ORDER
all-minilm-l6-v2  *       embedding  minilm/all-minilm-l6-v2
smollm2           *       chat       local/smollm2-135m-instruct (max_tokens 1024)
"""


@pytest.fixture
def editor() -> FakeRouteEditor:
    return FakeRouteEditor(FakeRouteBook())


async def told(editor: FakeRouteEditor, *words: str) -> str:
    parser = argparse.ArgumentParser()
    route_arguments(parser)
    return await edit_routes(editor, parser.parse_args(words))


async def test_a_route_is_for_chat_and_for_everybody_unless_said(editor: FakeRouteEditor) -> None:
    printed = await told(editor, "set", "gpt", "openai/gpt-5-mini")

    (entry,) = [entry for entry in await editor.entries("*") if entry.model == "gpt"]
    assert (entry.task, entry.candidates) == (Task.CHAT, (RouteCandidate("openai", "gpt-5-mini", 4096, "max_tokens"),))
    assert printed.splitlines()[1] == "gpt    *       chat  openai/gpt-5-mini (max_tokens 4096)"


async def test_everything_that_is_said_is_written(editor: FakeRouteEditor) -> None:
    await told(
        editor,
        *("set", "gpt", "openai/gpt-5", "hub/org/model", "--max-output-tokens", "9"),
        *("--limit-field", "max_completion_tokens", "--tenant", "ten_1"),
    )

    (entry,) = await editor.entries("ten_1")
    assert entry.candidates == (
        RouteCandidate("openai", "gpt-5", 9, "max_completion_tokens"),
        RouteCandidate("hub", "org/model", 9, "max_completion_tokens"),
    )


async def test_an_embedding_has_no_limit_on_its_output(editor: FakeRouteEditor) -> None:
    await told(editor, "set", "embedder", "a/1", "--task", "embedding", "--tenant", "ten_1")

    (entry,) = await editor.entries("ten_1")
    assert (entry.task, entry.candidates) == (Task.EMBEDDING, (RouteCandidate("a", "1", 0),))


async def test_routes_are_listed_as_a_table(editor: FakeRouteEditor) -> None:
    assert await told(editor, "list") == SEEDED
    assert await told(editor, "list", "--tenant", "ten_1") == "no routes\n"


async def test_a_hidden_model_is_listed_as_such(editor: FakeRouteEditor) -> None:
    editor.book.change("ten_1", "smollm2", [])

    assert "none: the model is hidden from this tenant" in await told(editor, "list", "--tenant", "ten_1")


async def test_removing_says_what_happened(editor: FakeRouteEditor) -> None:
    assert await told(editor, "remove", "smollm2") == "removed the route smollm2 of everybody\n"
    assert await told(editor, "remove", "smollm2") == "there is no route smollm2 of everybody\n"
    assert await told(editor, "remove", "smollm2", "--tenant", "ten_1") == "there is no route smollm2 of ten_1\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
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
        (("set", "e", "a/1", "--task", "embedding", "--max-output-tokens", "5"), "An embedding writes no tokens"),
        (("set", "e", "a/1", "--task", "embedding", "--limit-field", "max_tokens"), "An embedding writes no tokens"),
        (("set", "gpt", "a/1", "--tenant", "acme"), "'acme' is no tenant: an id begins with ten_"),
        (("set", "gpt", "a/1", "--tenant", "ten_"), "'ten_' is no tenant"),
        (("list", "--tenant", "acme"), "GET /admin/v1/tenants"),
        (("remove", "gpt", "--tenant", ""), "'' is no tenant"),
    ],
)
async def test_words_that_make_no_sense_are_refused_and_change_nothing(
    editor: FakeRouteEditor, words: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        await told(editor, *words)

    assert await told(editor, "list") == SEEDED


@pytest.mark.parametrize(
    "words",
    [(), ("set", "gpt"), ("set", "gpt", "a/1", "--task", "poetry"), ("set", "gpt", "a/1", "--limit-field", "limit")],
)
async def test_a_command_that_is_incomplete_or_unknown_is_one_of_usage(
    editor: FakeRouteEditor, words: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        await told(editor, *words)


def test_a_route_without_candidates_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="needs a candidate"):
        route_entry("gpt", [])

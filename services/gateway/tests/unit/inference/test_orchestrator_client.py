"""What `Inference` promises: by the fake, and over gRPC through the adapter."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
from argosy.orchestration.v1.orchestration_pb2_grpc import add_OrchestrationServiceServicer_to_server
from chassis.errors import ArgosyError, Kind, RemoteError, Unavailable
from chassis.grpc import Channel
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal, free_port
from chassis.testing.grpc import serving
from gateway.adapters.orchestrator import GRACE, GrpcInference
from gateway.domain.inference import Answer, Begun, ChatAsk, EmbedAsk, Finished, Inference, Payloads, Step, Tokens
from gateway.domain.money import NanoUsd

from services.gateway.tests.fakes.inference import BODY, CHUNKS, COST, NO_MODEL, SOURCE, USAGE, FakeInference
from services.gateway.tests.fakes.orchestrator import Orchestrator

CHAT = ChatAsk("req_1", "smollm2", b'{"odd": 1}', stream=True, deadline=timedelta(seconds=60))
EMBED = EmbedAsk("req_1", "mini", ["a", "b"], 8, timedelta(seconds=60))
FAILURE = RemoteError(Kind.UPSTREAM, "UPSTREAM_CUT", "The provider hung up.")
SERVICE = "argosy.orchestration.v1.OrchestrationService"


@pytest.fixture
def script() -> FakeInference:
    """What happens, wherever it is asked from."""
    return FakeInference()


@pytest.fixture(params=["fake", "grpc"])
async def inference(request: pytest.FixtureRequest, script: FakeInference) -> AsyncIterator[Inference]:
    if request.param == "fake":
        yield script
        return
    servicer = Orchestrator(script)
    async with serving((add_OrchestrationServiceServicer_to_server, servicer, SERVICE)) as channel:
        yield GrpcInference(channel)


@pytest.fixture(autouse=True)
def demo() -> Iterator[None]:
    with as_caller(a_caller(a_principal("ten_demo"), "req_1")):
        yield


async def steps_of(answer: Answer) -> list[Step]:
    """All of it."""
    steps: list[Step] = []
    while (step := await answer.next_step()) is not None:
        steps.append(step)
    return steps


async def test_an_answer_comes_in_its_steps_with_every_fact(inference: Inference, script: FakeInference) -> None:
    told: list[Step] = [
        Begun([SOURCE], soft_limit_passed=True),
        Payloads(list(CHUNKS)),
        Payloads([BODY]),
        Finished(Tokens(3, 0), COST, usage_document=USAGE),
    ]
    script.chat = told

    assert await steps_of(inference.generate(CHAT)) == told
    assert script.asked == [CHAT]
    assert script.callers[0].principal.tenant_id == "ten_demo"
    assert script.callers[0].request_id == "req_1"


async def test_unknown_usage_stays_unknown(inference: Inference, script: FakeInference) -> None:
    script.chat = [Finished(Tokens(None, 0), NanoUsd(0))]

    assert await steps_of(inference.generate(CHAT)) == [Finished(Tokens(None, 0), NanoUsd(0))]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("UPSTREAM_CUT", Kind.UPSTREAM),
        ("UPSTREAM_TIMED_OUT", Kind.TIMED_OUT),
        ("UPSTREAM_RATE_LIMITED", Kind.THROTTLED),
        ("UPSTREAM_REFUSED", Kind.INVALID),
    ],
)
async def test_an_answer_that_broke_off_says_why(
    inference: Inference, script: FakeInference, reason: str, kind: Kind
) -> None:
    script.chat = [Payloads([BODY]), Finished(Tokens(3, 1), COST, failure=RemoteError(kind, reason, "Sorry."))]

    finished = (await steps_of(inference.generate(CHAT)))[-1]

    assert isinstance(finished, Finished)
    assert isinstance(finished.failure, ArgosyError)
    assert (finished.failure.kind, finished.failure.reason, finished.failure.message) == (kind, reason, "Sorry.")


async def test_a_refusal_is_raised_by_the_first_step(inference: Inference, script: FakeInference) -> None:
    script.chat = [NO_MODEL]

    with pytest.raises(ArgosyError) as caught:
        await inference.generate(CHAT).next_step()
    assert (caught.value.reason, caught.value.kind, caught.value.param) == (
        "MODEL_NOT_FOUND",
        Kind.NOT_FOUND,
        "model",
    )


async def test_a_failure_in_the_middle_is_raised_where_it_happens(inference: Inference, script: FakeInference) -> None:
    script.chat = [Payloads([BODY]), FAILURE]
    answer = inference.generate(CHAT)

    assert await answer.next_step() == Payloads([BODY])
    with pytest.raises(ArgosyError) as caught:
        await answer.next_step()
    assert caught.value.reason == "UPSTREAM_CUT"


async def test_giving_up_stops_the_work(inference: Inference, script: FakeInference) -> None:
    script.chat = [Payloads([BODY]), asyncio.Event()]
    answer = inference.generate(CHAT)
    await answer.next_step()

    answer.cancel()

    async with asyncio.timeout(5):
        while not script.answers[0].cancelled:
            await asyncio.sleep(0.01)


async def test_giving_up_before_or_after_is_harmless(inference: Inference, script: FakeInference) -> None:
    inference.generate(CHAT).cancel()
    answer = inference.generate(CHAT)
    await steps_of(answer)
    answer.cancel()


async def test_texts_become_vectors_with_their_bill(inference: Inference, script: FakeInference) -> None:
    script.embedding = [b"\0\0\x80?", b"\0\0\0@"]

    embedded = await inference.embed(EMBED)

    assert (list(embedded.vectors), embedded.tokens, embedded.cost) == (script.embedding, Tokens(7, None), COST)
    assert script.asked == [EMBED]


async def test_a_refusal_to_embed_is_raised(inference: Inference, script: FakeInference) -> None:
    script.embedding = FAILURE

    with pytest.raises(ArgosyError) as caught:
        await inference.embed(EMBED)
    assert caught.value.reason == "UPSTREAM_CUT"


async def test_models_are_listed(inference: Inference, script: FakeInference) -> None:
    assert list(await inference.list_models()) == list(script.models)


async def test_the_orchestrator_has_the_clients_time_and_a_little_to_say_that_it_is_over(
    script: FakeInference,
) -> None:
    servicer = Orchestrator(script)
    async with serving((add_OrchestrationServiceServicer_to_server, servicer, SERVICE)) as channel:
        await steps_of(GrpcInference(channel).generate(CHAT))

    assert 60 < servicer.deadlines[0] < 61 + GRACE.total_seconds()


async def test_an_orchestrator_that_is_away_is_unavailable() -> None:
    async with Channel(f"127.0.0.1:{free_port()}", "orchestrator", timeout=timedelta(milliseconds=200)) as channel:
        with pytest.raises(Unavailable):
            await GrpcInference(channel).list_models()

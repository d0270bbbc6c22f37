"""An answer that is not what was asked for is not passed on: the next candidate is asked, and both are paid."""

import json
from typing import Any

import pytest
from chassis.testing import FakeClock
from inference_worker.breakers.circuits import Circuits
from inference_worker.plans.answer_check import find_fault
from inference_worker.plans.model import AnswerCheck, AttemptOutcome, AttemptStarting, Candidate, Chunk, Finished
from inference_worker.plans.run import PlanRun
from inference_worker.providers.ports import Completion, Upstream
from values.usage import TokenUsage, UsageSource
from worker_fakes import FakeCompletion, FakeCounter, FakeObserver, FakeProvider, a_plan

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def an_answer(*messages: dict[str, Any]) -> bytes:
    return json.dumps({"choices": [{"index": place, "message": one} for place, one in enumerate(messages)]}).encode()


@pytest.mark.parametrize(
    ("answer", "not_empty", "is_json"),
    [
        (an_answer({"content": "Hello"}), None, "it is not JSON"),
        (an_answer({"content": '{"a": 1}'}), None, None),
        (an_answer({"content": " \n"}), "it is empty", "it is empty"),
        (an_answer({"content": None}), "it is empty", "it is empty"),
        (an_answer({"content": None, "tool_calls": [CALL]}), None, None),
        (an_answer({"content": None, "function_call": CALL["function"]}), None, None),
        (an_answer({"content": [{"type": "text", "text": "[1, "}, {"type": "text", "text": "2]"}]}), None, None),
        (an_answer({"content": '{"a": 1'}), None, "it is not JSON"),
        (an_answer({"content": '```json\n{"a": 1}\n```'}), None, "it is not JSON"),
        (an_answer({"content": "{}"}, {"content": ""}), "it is empty", "it is empty"),
        (b'{"choices": []}', "it has no choices", "it has no choices"),
        (b'{"choices": [{}]}', "it has no message", "it has no message"),
        (b"[]", "it has no choices", "it has no choices"),
        (b"garbage", "it cannot be read", "it cannot be read"),
    ],
)
def test_an_answer_passes_if_it_is_what_was_asked_for(answer: bytes, not_empty: str | None, is_json: str | None):
    assert find_fault([answer[:5], answer[5:]], AnswerCheck.NOT_EMPTY) == not_empty
    assert find_fault([answer], AnswerCheck.JSON) == is_json
    assert find_fault([answer], AnswerCheck.NONE) is None


class Answering(FakeProvider):
    """Answers with the model's name as the text; `empty` has none."""

    reports_usage = True

    async def open(self, model: str, body: bytes, *, stream: bool, credential: Any = None) -> Completion:
        if stream or model not in {"empty", "good"}:
            return await super().open(model, body, stream=stream)
        self.opened.append(model)
        usage = TokenUsage(UsageSource.REPORTED, 3, 5) if self.reports_usage else None
        return FakeCompletion([[an_answer({"content": "" if model == "empty" else model})]], usage_at_end=usage)


async def run(
    provider: FakeProvider, *models: str, stream: bool = False, check: AnswerCheck = AnswerCheck.NOT_EMPTY
) -> tuple[Finished, bytes]:
    """Ask the first model with a check, then the others without; return the record, and what was passed on."""
    body = b'{"messages": [{"role": "user", "content": "one two"}]}'
    cheap, *others = (Candidate("u", model, body) for model in models)
    checked = Candidate(cheap.upstream, cheap.model, cheap.body, answer_check=check)
    plan_run = PlanRun(
        a_plan(checked, *others, stream=stream),
        upstreams={"u": Upstream(FakeCounter(), provider)},
        clock=FakeClock(),
        observer=FakeObserver(),
        circuits=Circuits(),
    )
    passed_on: list[bytes] = []

    async def emit(event: object) -> None:
        if isinstance(event, AttemptStarting):
            plan_run.proceed(event.number)
        if isinstance(event, Chunk):
            passed_on.extend(event.payloads)

    return await plan_run.run(emit), b"".join(passed_on)


async def test_after_an_empty_answer_the_next_candidate_is_asked_and_both_are_paid():
    finished, passed_on = await run(Answering(), "empty", "good")

    assert finished.error is None
    assert passed_on == an_answer({"content": "good"})
    outcomes = [(one.outcome, one.usage.known) for one in finished.attempts]
    assert outcomes == [(AttemptOutcome.INTERRUPTED, (3, 5)), (AttemptOutcome.SUCCEEDED, (3, 5))]


async def test_a_refused_answer_without_usage_is_counted():
    provider = Answering()
    provider.reports_usage = False
    finished, _ = await run(provider, "empty", "good")

    assert [one.usage.source for one in finished.attempts] == [UsageSource.COUNTED] * 2
    assert finished.attempts[0].exposure_cause is None


async def test_an_answer_that_passes_its_check_is_passed_on_whole():
    provider = Answering()
    finished, passed_on = await run(provider, "good", "instant")

    assert (finished.error, passed_on, provider.opened) == (None, an_answer({"content": "good"}), ["good"])


async def test_text_is_passed_on_as_json_by_none_but_the_next_candidate():
    finished, passed_on = await run(Answering(), "good", "tools", check=AnswerCheck.JSON)

    assert finished.error is None
    assert b"tool_calls" in passed_on


async def test_a_stream_is_not_checked():
    provider = Answering()
    finished, _ = await run(provider, "instant", "good", stream=True, check=AnswerCheck.JSON)

    assert (finished.error, provider.opened) == (None, ["instant"])


async def test_when_no_other_candidate_can_be_called_the_error_says_what_was_wrong():
    finished, passed_on = await run(Answering(), "empty", "400")

    assert passed_on == b""
    assert [one.outcome for one in finished.attempts] == [AttemptOutcome.INTERRUPTED, AttemptOutcome.REJECTED]
    alone, _ = await run(Answering(), "empty")
    assert alone.error is not None
    assert alone.error.reason == "UPSTREAM_ANSWER_REFUSED"
    assert alone.error.message == "the answer of a cheap model is not what was asked for: it is empty"

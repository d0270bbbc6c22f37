"""One contract, four providers: the fake keeps the promises that the real ones keep."""

from collections.abc import AsyncIterator

import pytest
from chassis.clock import SystemClock
from inference_worker.adapters.anthropic import AnthropicProvider
from inference_worker.adapters.http import Endpoint, HttpUpstream
from inference_worker.adapters.litellm import Account, LitellmProvider
from inference_worker.adapters.openai import OpenaiProvider
from inference_worker.domain.failures import UpstreamFailed, UpstreamRefused
from inference_worker.domain.ports import Provider
from provider_contract import KEY, ProviderContract, drain, said
from worker_fakes import FakeProvider, a_candidate

from tests.simulators.upstream import UpstreamSimulator


class TestFakeProvider(ProviderContract):
    @pytest.fixture
    def provider(self) -> Provider:
        self.fake = FakeProvider()
        return self.fake

    def received(self) -> int:
        return len(self.fake.opened)

    def broken_off(self) -> int:
        return self.fake.cancelled + sum(answer.aborted for answer in self.fake.answers)


class Simulated(ProviderContract):
    @pytest.fixture(autouse=True)
    def keep_simulator(self, simulator: UpstreamSimulator) -> None:
        self.simulator = simulator

    def received(self) -> int:
        return self.simulator.received

    def broken_off(self) -> int:
        return self.simulator.broken_off


class TestOpenaiProvider(Simulated):
    @pytest.fixture
    async def provider(self, simulator: UpstreamSimulator) -> AsyncIterator[Provider]:
        async with HttpUpstream(an_endpoint(f"{simulator.url}/v1", authorization=f"Bearer {KEY}")) as http:
            yield OpenaiProvider(http)

    async def test_the_body_goes_out_as_it_came_with_our_credential(self, provider: Provider):
        await said(provider, "instant", stream=True)

        (seen,) = self.simulator.seen
        assert seen.headers["authorization"] == f"Bearer {KEY}"
        assert seen.body["stream_options"] == {"include_usage": True}


class TestAnthropicProvider(Simulated):
    @pytest.fixture
    async def provider(self, simulator: UpstreamSimulator) -> AsyncIterator[Provider]:
        headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
        async with HttpUpstream(an_endpoint(simulator.url, **headers)) as http:
            yield AnthropicProvider(http, SystemClock())

    async def test_the_body_goes_out_translated_with_our_credential(self, provider: Provider):
        await said(provider, "instant", stream=True)

        (seen,) = self.simulator.seen
        assert seen.headers["x-api-key"] == KEY
        assert seen.body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "hello there"}]}]
        assert seen.body["stream"] is True
        assert "stream_options" not in seen.body

    async def test_a_body_that_cannot_be_translated_is_refused_and_not_sent(self, provider: Provider):
        deep = "[" * 300 + "]" * 300
        call = {"id": "call_1", "function": {"name": "f", "arguments": f'{{"x": {deep}}}'}}

        with pytest.raises(UpstreamRefused) as caught:
            await provider.open(a_candidate(messages=[{"role": "assistant", "tool_calls": [call]}]), stream=True)

        assert not caught.value.may_have_cost
        assert not self.received()

    async def test_a_stream_without_its_end_mark_is_cut(self, provider: Provider):
        with pytest.raises(UpstreamFailed) as caught:
            await said(provider, "no-done", stream=True)

        assert caught.value.reason == "UPSTREAM_CUT"


@pytest.mark.filterwarnings("ignore:Item '.*' on TypedDict class .* is using the `ReadOnly` qualifier:UserWarning")
@pytest.mark.filterwarnings("ignore:Accessing the 'model_.*fields' attribute on the instance is deprecated")
class TestLitellmProvider(Simulated):
    @pytest.fixture
    async def provider(self, simulator: UpstreamSimulator) -> AsyncIterator[Provider]:
        provider = LitellmProvider(Account("openai", f"{simulator.url}/v1", {"api_key": KEY}))
        yield provider
        await provider.close()

    async def test_a_client_cannot_reach_litellms_own_arguments(self, provider: Provider):
        body = a_candidate("instant", api_base="http://127.0.0.1:1", api_key="theirs", mock_response="boo")

        await drain(await provider.open(body, stream=True), [])

        (seen,) = self.simulator.seen
        assert seen.headers["authorization"] == f"Bearer {KEY}"
        assert not {"api_base", "api_key", "mock_response"} & set(seen.body)


def an_endpoint(base_url: str, **headers: str) -> Endpoint:
    return Endpoint(base_url, headers, secrets=(KEY,), max_body_bytes=256 * 1024, max_event_bytes=64 * 1024)

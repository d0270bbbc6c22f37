"""The contract runs over the fake and over every real provider."""

from collections.abc import AsyncIterator

import pytest
from chassis.clock import SystemClock
from inference_worker.providers.anthropic.chat import AnthropicProvider
from inference_worker.providers.litellm import LitellmProvider
from inference_worker.providers.model import UpstreamFailed, UpstreamRejected
from inference_worker.providers.openai.chat import OpenaiProvider
from inference_worker.providers.ports import Provider
from inference_worker.providers.transport.http import Endpoint, HttpClient
from provider_contract import KEY, ProviderContract, complete, drain, open_completion
from worker_fakes import FakeProvider

from tests.simulators.upstream import UpstreamSimulator


class TestFakeProvider(ProviderContract):
    @pytest.fixture
    def provider(self) -> Provider:
        self.fake = FakeProvider()
        return self.fake

    def received(self) -> int:
        return len(self.fake.opened)

    def aborted(self) -> int:
        return self.fake.cancelled + sum(completion.aborted for completion in self.fake.completions)


class Simulated(ProviderContract):
    @pytest.fixture(autouse=True)
    def keep_simulator(self, simulator: UpstreamSimulator) -> None:
        self.simulator = simulator

    def received(self) -> int:
        return self.simulator.received

    def aborted(self) -> int:
        return self.simulator.aborted


class TestOpenaiProvider(Simulated):
    @pytest.fixture
    async def provider(self, simulator: UpstreamSimulator) -> AsyncIterator[Provider]:
        async with HttpClient(an_endpoint(f"{simulator.url}/v1", authorization=f"Bearer {KEY}")) as client:
            yield OpenaiProvider(client)

    async def test_the_body_is_sent_unchanged_with_our_credential(self, provider: Provider):
        await complete(provider, "instant", stream=True)

        (request,) = self.simulator.requests
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.body["stream_options"] == {"include_usage": True}


class TestAnthropicProvider(Simulated):
    @pytest.fixture
    async def provider(self, simulator: UpstreamSimulator) -> AsyncIterator[Provider]:
        headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
        async with HttpClient(an_endpoint(simulator.url, **headers)) as client:
            yield AnthropicProvider(client, SystemClock())

    async def test_the_body_is_sent_translated_with_our_credential(self, provider: Provider):
        await complete(provider, "instant", stream=True)

        (request,) = self.simulator.requests
        assert request.headers["x-api-key"] == KEY
        assert request.body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "hello there"}]}]
        assert request.body["stream"] is True
        assert "stream_options" not in request.body

    async def test_a_body_that_cannot_be_translated_is_rejected_and_not_sent(self, provider: Provider):
        deep = "[" * 300 + "]" * 300
        call = {"id": "call_1", "function": {"name": "f", "arguments": f'{{"x": {deep}}}'}}

        with pytest.raises(UpstreamRejected) as caught:
            await open_completion(provider, "instant", messages=[{"role": "assistant", "tool_calls": [call]}])

        assert not caught.value.maybe_billed
        assert not self.received()

    async def test_a_stream_without_its_end_mark_is_interrupted(self, provider: Provider):
        with pytest.raises(UpstreamFailed) as caught:
            await complete(provider, "no-done", stream=True)

        assert caught.value.reason == "UPSTREAM_INTERRUPTED"


@pytest.mark.filterwarnings("ignore:Item '.*' on TypedDict class .* is using the `ReadOnly` qualifier:UserWarning")
@pytest.mark.filterwarnings("ignore:Accessing the 'model_.*fields' attribute on the instance is deprecated")
class TestLitellmProvider(Simulated):
    @pytest.fixture
    async def provider(self, simulator: UpstreamSimulator) -> AsyncIterator[Provider]:
        provider = LitellmProvider("openai", f"{simulator.url}/v1", {"api_key": KEY})
        yield provider
        await provider.close()

    async def test_a_client_cannot_set_litellms_own_arguments(self, provider: Provider):
        completion = await open_completion(
            provider, "instant", api_base="http://127.0.0.1:1", api_key="theirs", mock_response="boo"
        )

        await drain(completion, [])

        (request,) = self.simulator.requests
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert not {"api_base", "api_key", "mock_response"} & set(request.body)


def an_endpoint(base_url: str, **headers: str) -> Endpoint:
    return Endpoint(base_url, headers, secrets=(KEY,), max_response_bytes=256 * 1024, max_event_bytes=64 * 1024)

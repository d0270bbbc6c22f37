"""No tenant learns what another asked: ids are the tenant's own, and a shared cache is neither seen nor controlled."""

import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from chassis.clock import SystemClock
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal
from inference_worker.providers.anthropic.config import AnthropicConfig
from inference_worker.providers.isolation import TenantIsolation, tenant_scoped, without_cache_reports
from inference_worker.providers.litellm import LitellmConfig
from inference_worker.providers.model import UpstreamRejected
from inference_worker.providers.openai.config import OpenaiConfig
from values.usage import TokenDetails, TokenUsage, UsageSource
from worker_fakes import FakeCompletion

from tests.simulators.upstream import UpstreamSimulator

IDS = {
    "user": "alice",
    "safety_identifier": "alice",
    "prompt_cache_key": "shared",
    "cache_salt": "salt",
    "metadata": {"user_id": "alice", "team": "blue"},
}
CONTROLS: dict[str, Any] = {
    "cache_prompt": True,
    "id_slot": 0,
    "cached_content": "caches/1",
    "prompt_cache_retention": "24h",
    "timings_per_token": True,
    "return_progress": True,
    "cache_control": {"type": "ephemeral"},
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
    ],
    "tools": [{"type": "function", "cache_control": {"type": "ephemeral"}, "function": {"name": "f"}}],
}
REPORT = {
    "choices": [],
    "usage": {
        "prompt_tokens": 270,
        "completion_tokens": 2,
        "total_tokens": 272,
        "prompt_tokens_details": {"cached_tokens": 269, "audio_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 1},
        "prompt_cache_hit_tokens": 269,
        "prompt_time": 0.1,
    },
    "timings": {"cache_n": 269, "prompt_ms": 14.9},
    "prompt_progress": {"cache": 269},
    "x_groq": {"id": "1"},
    "time_info": {"prompt_time": 0.1},
}
PLAIN = {
    "choices": [],
    "usage": {
        "prompt_tokens": 270,
        "completion_tokens": 2,
        "total_tokens": 272,
        "prompt_tokens_details": {"audio_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 1},
    },
}


class RecordingProvider:
    """Records the bodies, and answers with `payload`."""

    def __init__(self, payload: bytes = b"{}") -> None:
        self.bodies: list[bytes] = []
        self.completion = FakeCompletion([[payload]])
        self.completion.usage_payload = payload

    async def open(self, _model: str, body: bytes, *, stream: bool, credential: Any = None) -> FakeCompletion:
        self.bodies.append(body)
        return self.completion


async def sent(tenant_id: str, body: dict[str, Any], **settings: Any) -> dict[str, Any]:
    provider = RecordingProvider()
    # As the orchestrator renders it.
    rendered = json.dumps({"messages": [], **body}, separators=(",", ":")).encode()
    with as_caller(a_caller(a_principal(tenant_id))):
        await TenantIsolation(provider, **settings).open("model", rendered, stream=False)
    body_sent: dict[str, Any] = json.loads(provider.bodies[0])
    return body_sent


@pytest.mark.parametrize("shares", [True, False])
async def test_ids_of_two_tenants_differ_and_those_of_one_stay_equal(shares: bool):
    one, again, other = [await sent(t, IDS, shares_prompt_cache=shares) for t in ("ten_one", "ten_one", "ten_two")]

    assert one == again
    for name in ("user", "safety_identifier", "prompt_cache_key", "cache_salt"):
        assert len({IDS[name], one[name], other[name]}) == 3, name
    assert one["metadata"]["user_id"] not in {"alice", other["metadata"]["user_id"]}
    assert one["metadata"]["team"] == "blue"


def test_an_id_cannot_be_made_to_equal_that_of_another_tenant():
    assert tenant_scoped("ten_a", "1") != tenant_scoped("ten_a1", "")
    assert len(tenant_scoped("ten_a", {"nested": 1})) == 32


async def test_a_client_does_not_control_a_shared_cache():
    body = await sent("ten_one", CONTROLS)

    assert body == {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    assert await sent("ten_one", CONTROLS, shares_prompt_cache=False) == CONTROLS


async def test_every_request_names_its_tenant_where_the_upstream_separates_caches_by_it():
    one, other = [await sent(t, {}, tenant_cache_field="cache_salt") for t in ("ten_one", "ten_two")]

    assert one["cache_salt"] != other["cache_salt"]


async def test_a_body_with_nothing_to_keep_apart_is_sent_unread():
    provider = RecordingProvider()
    body = b'{"messages":[{"role":"user","content":"Hi"}],"stream":true,"stream_options":{"include_usage":true}}'

    with as_caller(a_caller(a_principal("ten_one"))):
        await TenantIsolation(provider).open("model", body, stream=True)

    assert provider.bodies[0] is body


@pytest.mark.parametrize("body", [b'"user":', b'[{"user":1}]'])
async def test_a_body_that_cannot_be_read_is_rejected(body: bytes):
    with as_caller(a_caller(a_principal("ten_one"))), pytest.raises(UpstreamRejected):
        await TenantIsolation(RecordingProvider()).open("model", body, stream=True)


async def test_a_client_does_not_see_what_a_shared_cache_did():
    provider = RecordingProvider(json.dumps(REPORT).encode())
    with as_caller(a_caller(a_principal("ten_one"))):
        completion = await TenantIsolation(provider).open("model", b"{}", stream=True)

    (payload,) = await completion.read()

    assert json.loads(payload) == json.loads(completion.usage_payload) == PLAIN
    with as_caller(a_caller(a_principal("ten_one"))):
        own = await TenantIsolation(provider, shares_prompt_cache=False).open("model", b"{}", stream=True)
    assert json.loads(own.usage_payload) == REPORT


async def test_the_bill_does_not_tell_what_a_shared_cache_did():
    provider = RecordingProvider()
    details = TokenDetails(cached_input=269, reasoning_output=1)
    provider.completion.usage = TokenUsage(UsageSource.REPORTED, 270, 2, details)

    with as_caller(a_caller(a_principal("ten_one"))):
        shared = await TenantIsolation(provider).open("model", b"{}", stream=True)
        own = await TenantIsolation(provider, shares_prompt_cache=False).open("model", b"{}", stream=True)

    assert shared.usage == TokenUsage(UsageSource.REPORTED, 270, 2, TokenDetails(reasoning_output=1))
    assert own.usage == provider.completion.usage


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"not json: cache", b'["cache"]', b'{"choices":[{"text":"the cache"}]}']
)
def test_a_payload_without_reports_is_passed_on_as_it_is(payload: bytes):
    assert without_cache_reports(payload) is payload


@pytest.mark.parametrize("kind", ["openai", "anthropic", "litellm"])
async def test_every_kind_of_upstream_keeps_tenants_apart(kind: str, simulator: UpstreamSimulator):
    configs = {
        "openai": lambda: OpenaiConfig(kind="openai", base_url=f"{simulator.url}/v1"),
        "anthropic": lambda: AnthropicConfig(kind="anthropic", base_url=simulator.url),
        "litellm": lambda: LitellmConfig(
            kind="litellm", litellm_provider="openai", base_url=f"{simulator.url}/v1", api_key="sk-of-the-tests-000"
        ),
    }
    config = configs[kind]()
    body = json.dumps({"model": "instant", "messages": [{"role": "user", "content": "Hi"}], "user": "alice"})
    async with AsyncExitStack() as stack:
        upstream = config.isolate(await config.open(SystemClock(), stack))
        assert upstream.provider is not None
        for tenant_id in ("ten_one", "ten_two"):
            with as_caller(a_caller(a_principal(tenant_id))):
                completion = await upstream.provider.open("instant", body.encode(), stream=False)
                while await completion.read():
                    pass

    assert len(simulator.requests) == 2
    assert "alice" not in json.dumps([request.body for request in simulator.requests])
    if kind != "litellm":  # it drops the user for models that it does not know
        users = [r.body.get("user") or r.body["metadata"]["user_id"] for r in simulator.requests]
        assert users == [tenant_scoped("ten_one", "alice"), tenant_scoped("ten_two", "alice")]

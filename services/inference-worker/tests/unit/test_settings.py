import json
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from chassis.clock import SystemClock
from chassis.settings import load, redacted
from chassis.testing import SECRET
from inference_worker.providers.anthropic.config import AnthropicConfig
from inference_worker.providers.litellm import LitellmConfig
from inference_worker.providers.minilm import OnnxConfig
from inference_worker.providers.openai.config import OpenaiConfig
from inference_worker.settings import Settings
from pydantic import ValidationError

KEY = "sk-very-secret-credential"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch):
    def read(upstreams: object = None, **variables: str) -> Settings:
        monkeypatch.setenv("INFERENCE_WORKER_PRINCIPAL__SECRETS", SECRET)
        if upstreams is not None:
            monkeypatch.setenv("INFERENCE_WORKER_UPSTREAMS", json.dumps(upstreams))
        for name, value in variables.items():
            monkeypatch.setenv(f"INFERENCE_WORKER_{name}", value)
        return Settings()

    return read


def test_upstreams_are_read_from_json(settings):
    found = settings(
        {
            "local": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "tokenizer": "/models/tokenizer.json"},
            "claude": {"kind": "anthropic", "base_url": "https://api.anthropic.com", "api_key": KEY},
            "gemini": {"kind": "litellm", "litellm_provider": "gemini", "api_key": KEY, "options": {"seed": "1"}},
            "minilm": {"kind": "onnx", "path": "/models/minilm"},
        }
    ).upstreams

    local, claude, gemini, minilm = (found[name] for name in ("local", "claude", "gemini", "minilm"))
    assert isinstance(local, OpenaiConfig)
    assert local.endpoint().headers == {}
    assert local.tokenizer == Path("/models/tokenizer.json")
    assert isinstance(claude, AnthropicConfig)
    assert claude.endpoint().headers == {"anthropic-version": "2023-06-01", "x-api-key": KEY}
    assert claude.endpoint().secrets == (KEY,)
    assert claude.encoding == "cl100k_base"
    assert isinstance(gemini, LitellmConfig)
    assert (gemini.litellm_provider, gemini.base_url) == ("gemini", None)
    assert gemini.arguments() == {"seed": "1", "api_key": KEY}
    assert isinstance(minilm, OnnxConfig)
    assert (minilm.path, minilm.threads) == (Path("/models/minilm"), 1)


def test_a_credential_may_have_a_variable_of_its_own(settings):
    found = settings(
        {"openai": {"kind": "openai", "base_url": "https://api.openai.com/v1"}}, UPSTREAMS__OPENAI__API_KEY=KEY
    )

    assert found.upstreams["openai"].endpoint().headers["authorization"] == f"Bearer {KEY}"


def test_more_headers_are_sent_and_kept_secret(settings):
    headers = {"X-Api-Key": KEY, "x-version": "2"}
    found = settings({"gate": {"kind": "openai", "base_url": "http://gate/v1", "headers": headers}})

    endpoint = found.upstreams["gate"].endpoint()

    assert endpoint.headers == {"x-api-key": KEY, "x-version": "2"}
    assert endpoint.secrets == (KEY,)


async def test_credentials_are_never_printed(settings):
    found = settings(
        {
            "openai": {"kind": "openai", "base_url": "http://x/v1", "api_key": KEY, "headers": {"x": KEY}},
            "gemini": {"kind": "litellm", "litellm_provider": "gemini", "api_key": KEY, "options": {"y": KEY}},
        }
    )

    async with AsyncExitStack() as stack:
        opened = [await config.open(SystemClock(), stack) for config in found.upstreams.values()]
        printed = repr(found) + json.dumps(redacted(found)) + repr(opened)

    assert KEY not in printed + repr(found.upstreams["openai"].endpoint())


@pytest.mark.parametrize(
    "upstream",
    [
        {"kind": "carrier-pigeon"},
        {"base_url": "http://x"},
        {"kind": "openai"},
        {"kind": "openai", "base_url": "ftp://x"},
        {"kind": "openai", "base_url": "https://user:password@host/v1"},
        {"kind": "openai", "base_url": "http://x", "surprise": 1},
        {"kind": "openai", "base_url": "http://x", "max_response_bytes": 16 * 1024 * 1024},
        {"kind": "openai", "base_url": "http://x", "encoding": "no_such_encoding"},
        {"kind": "litellm"},
        {"kind": "onnx"},
    ],
)
def test_an_invalid_upstream_is_refused(settings, upstream: dict[str, object]):
    with pytest.raises(ValidationError, match="upstreams"):
        settings({"x": upstream})


@pytest.mark.parametrize("name", ["", "Loud", "with space", "a/b", "-x"])
def test_a_name_that_is_invalid_in_a_price_key_is_refused(settings, name: str):
    with pytest.raises(ValidationError, match="upstreams"):
        settings({name: {"kind": "onnx", "path": "/x"}})


def test_without_upstreams_the_worker_starts(settings):
    assert settings().upstreams == {}


def test_one_upstream_may_carry_all_calls_of_the_worker(settings):
    found = settings({"x": {"kind": "openai", "base_url": "http://x"}})

    assert found.max_in_flight >= 2000
    assert found.upstreams["x"].endpoint().max_connections >= found.max_in_flight


def test_times_are_read_as_iso_or_seconds(settings):
    found = settings({"x": {"kind": "openai", "base_url": "http://x", "connect_timeout": "PT2S"}}, DRAIN="9")

    assert found.upstreams["x"].endpoint().connect_timeout == timedelta(seconds=2)
    assert found.drain == timedelta(seconds=9)


JOBS = {
    "KAFKA__SIGNING_KEYS": "tests-1:a-key-of-events-for-tests-and-nothing-else",
    "KAFKA__BOOTSTRAP": "kafka:9092",
    "PEERS__ORCHESTRATOR": "orchestrator:9000",
    "REDIS__URL": "redis://redis:6379/0",
}


def test_without_kafka_the_worker_takes_no_jobs(settings):
    found = settings()

    assert (found.kafka, found.peers, found.redis, found.jobs) == (None, None, None, None)


def test_jobs_need_kafka_redis_and_the_orchestrator_and_nothing_else(settings):
    found = settings(**JOBS)

    assert found.kafka.bootstrap == "kafka:9092"
    assert found.peers.orchestrator == "orchestrator:9000"
    assert settings(**JOBS, JOBS__POOL="premium", JOBS__SLOTS="3").jobs.pool == "premium"


@pytest.mark.parametrize("missing", ["KAFKA__SIGNING_KEYS", "PEERS__ORCHESTRATOR", "REDIS__URL"])
def test_half_of_what_jobs_need_is_refused_with_the_variable_named(
    settings, missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(ValidationError):
        settings(**{name: value for name, value in JOBS.items() if name != missing})
    with pytest.raises(SystemExit) as exited:
        load(Settings)

    assert exited.value.code == 78
    assert f"INFERENCE_WORKER_{missing.partition('__')[0]}" in capsys.readouterr().err


def test_settings_of_jobs_without_kafka_are_refused(settings):
    with pytest.raises(ValidationError, match="INFERENCE_WORKER_KAFKA__SIGNING_KEYS is not set"):
        settings(JOBS__SLOTS="3")


@pytest.mark.parametrize("pool", ["Premium", "a.b", "", "-x", "x" * 40])
def test_a_pool_that_cannot_be_a_part_of_a_topic_is_refused(settings, pool: str):
    with pytest.raises(ValidationError, match="pool"):
        settings(**JOBS, JOBS__POOL=pool)


def test_a_drain_that_leaves_streams_no_time_is_refused(settings):
    with pytest.raises(ValidationError, match="drain"):
        settings(DRAIN="4")

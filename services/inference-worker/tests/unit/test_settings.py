import json
from datetime import timedelta
from pathlib import Path

import pytest
from chassis.settings import redacted
from chassis.testing import SECRET
from inference_worker.adapters.litellm import Account
from inference_worker.adapters.upstreams import InProcess, OverHttp, ThroughLitellm
from inference_worker.main import specified
from inference_worker.settings import Settings
from pydantic import ValidationError

KEY = "sk-very-secret-credential"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch):
    def read(upstreams: object = None, **more: str) -> Settings:
        monkeypatch.setenv("INFERENCE_WORKER_PRINCIPAL__SECRETS", SECRET)
        if upstreams is not None:
            monkeypatch.setenv("INFERENCE_WORKER_UPSTREAMS", json.dumps(upstreams))
        for name, value in more.items():
            monkeypatch.setenv(f"INFERENCE_WORKER_{name}", value)
        return Settings()

    return read


def test_upstreams_come_as_json(settings):
    found = settings(
        {
            "local": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "tokenizer": "/models/tokenizer.json"},
            "claude": {"kind": "anthropic", "base_url": "https://api.anthropic.com", "api_key": KEY},
            "gemini": {"kind": "litellm", "litellm_provider": "gemini", "api_key": KEY, "options": {"seed": "1"}},
            "minilm": {"kind": "onnx", "path": "/models/minilm"},
        }
    ).upstreams

    local, claude, gemini, minilm = (specified(found[name]) for name in ("local", "claude", "gemini", "minilm"))
    assert isinstance(local, OverHttp)
    assert local.dialect == "openai"
    assert local.endpoint.headers == {}
    assert local.counting.tokenizer == Path("/models/tokenizer.json")
    assert isinstance(claude, OverHttp)
    assert claude.dialect == "anthropic"
    assert claude.endpoint.headers == {"anthropic-version": "2023-06-01", "x-api-key": KEY}
    assert claude.endpoint.secrets == (KEY,)
    assert claude.counting.encoding == "cl100k_base"
    assert isinstance(gemini, ThroughLitellm)
    assert gemini.account == Account("gemini", None, {"seed": "1", "api_key": KEY})
    assert minilm == InProcess(Path("/models/minilm"), 1)


def test_a_credential_may_come_in_a_variable_of_its_own(settings):
    found = settings(
        {"openai": {"kind": "openai", "base_url": "https://api.openai.com/v1"}}, UPSTREAMS__OPENAI__API_KEY=KEY
    )

    specification = specified(found.upstreams["openai"])

    assert isinstance(specification, OverHttp)
    assert specification.endpoint.headers["authorization"] == f"Bearer {KEY}"


def test_more_headers_are_sent_and_kept_secret(settings):
    headers = {"X-Api-Key": KEY, "x-version": "2"}
    found = settings({"gate": {"kind": "openai", "base_url": "http://gate/v1", "headers": headers}})

    specification = specified(found.upstreams["gate"])

    assert isinstance(specification, OverHttp)
    assert specification.endpoint.headers == {"x-api-key": KEY, "x-version": "2"}
    assert specification.endpoint.secrets == (KEY,)


def test_credentials_are_never_printed(settings):
    found = settings(
        {
            "openai": {"kind": "openai", "base_url": "http://x/v1", "api_key": KEY, "headers": {"x": KEY}},
            "gemini": {"kind": "litellm", "litellm_provider": "gemini", "api_key": KEY, "options": {"y": KEY}},
        }
    )

    shown = (
        repr(found) + json.dumps(redacted(found)) + "".join(repr(specified(one)) for one in found.upstreams.values())
    )

    assert KEY not in shown


@pytest.mark.parametrize(
    "upstream",
    [
        {"kind": "carrier-pigeon"},
        {"base_url": "http://x"},
        {"kind": "openai"},
        {"kind": "openai", "base_url": "ftp://x"},
        {"kind": "openai", "base_url": "https://user:password@host/v1"},
        {"kind": "openai", "base_url": "http://x", "surprise": 1},
        {"kind": "openai", "base_url": "http://x", "max_answer_bytes": 16 * 1024 * 1024},
        {"kind": "openai", "base_url": "http://x", "encoding": "unheard_of"},
        {"kind": "litellm"},
        {"kind": "onnx"},
    ],
)
def test_an_upstream_that_makes_no_sense_is_refused(settings, upstream: dict[str, object]):
    with pytest.raises(ValidationError, match="upstreams"):
        settings({"x": upstream})


@pytest.mark.parametrize("name", ["", "Loud", "with space", "a/b", "-x"])
def test_a_name_that_could_not_stand_in_a_price_key_is_refused(settings, name: str):
    with pytest.raises(ValidationError, match="upstreams"):
        settings({name: {"kind": "onnx", "path": "/x"}})


def test_without_upstreams_the_worker_starts_and_refuses_every_candidate(settings):
    assert settings().upstreams == {}


def test_one_upstream_may_carry_all_that_the_worker_lets_in(settings):
    found = settings({"x": {"kind": "openai", "base_url": "http://x"}})

    assert found.max_in_flight >= 2000
    assert specified(found.upstreams["x"]).endpoint.max_connections >= found.max_in_flight


def test_times_are_read_as_iso_or_seconds(settings):
    found = settings({"x": {"kind": "openai", "base_url": "http://x", "connect_timeout": "PT2S"}}, DRAIN="9")

    assert specified(found.upstreams["x"]).endpoint.connect_timeout == timedelta(seconds=2)
    assert found.drain == timedelta(seconds=9)


def test_a_drain_that_leaves_streams_no_time_is_refused(settings):
    with pytest.raises(ValidationError, match="drain"):
        settings(DRAIN="4")

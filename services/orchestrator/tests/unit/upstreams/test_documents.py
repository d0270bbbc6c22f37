"""What operators may write into an upstream."""

from __future__ import annotations

from typing import Any

import pytest
from chassis.errors import InvalidRequest
from orchestrator.upstreams.documents import document_to_upstream
from orchestrator.upstreams.model import UpstreamAddressNotAllowed, UpstreamKind

from services.orchestrator.tests.fake_upstreams import OPENAI

ANTHROPIC = {"kind": "anthropic", "base_url": "https://api.anthropic.com"}
GEMINI = {"kind": "litellm", "litellm_provider": "gemini"}


RERANKERS: list[dict[str, Any]] = [
    {"kind": "cohere", "base_url": "https://api.cohere.com/v2"},
    {"kind": "jina", "base_url": "https://api.jina.ai/v1"},
    {"kind": "voyage", "base_url": "https://api.voyageai.com/v1"},
    {"kind": "tei", "base_url": "http://reranker:8080", "max_documents_per_call": 64},
]


@pytest.mark.parametrize("document", [OPENAI, ANTHROPIC, GEMINI, *RERANKERS])
def test_defaults_are_written_and_read_as_the_same_upstream(document: dict[str, Any]) -> None:
    one = document_to_upstream("one", document, ())

    assert one.kind is UpstreamKind(document["kind"])
    assert one.document["requires_credential"] is True
    assert document_to_upstream("one", dict(one.document), ()) == one


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"kind": "onnx"}, "kind"),
        ({"kind": None}, "kind"),
        ({"kind": ["openai"]}, "kind"),
        ({"api_key": "sk-1"}, "api_key"),
        ({"headers": {}}, "headers"),
        ({"litellm_provider": "gemini"}, "litellm_provider"),
        ({"version": "2023-06-01"}, "version"),
        ({"base_url": None}, "base_url"),
        ({"base_url": 7}, "base_url"),
        ({"max_connections": 0}, "max_connections"),
        ({"max_connections": True}, "max_connections"),
        ({"max_connections": 1.5}, "max_connections"),
        ({"connect_timeout_seconds": 0}, "connect_timeout_seconds"),
        ({"connect_timeout_seconds": "5"}, "connect_timeout_seconds"),
        ({"requires_credential": "no"}, "requires_credential"),
        ({"encoding": "gpt2"}, "encoding"),
        ({"tenant_cache_field": "user"}, "tenant_cache_field"),
        ({"capabilities": []}, "capabilities"),
        ({"capabilities": {"telepathy": True}}, "capabilities.telepathy"),
        ({"capabilities": {"tools": "yes"}}, "capabilities.tools"),
        ({"capabilities": {"context_tokens": 0}}, "capabilities.context_tokens"),
        ({"description": "two\nlines"}, "description"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        document_to_upstream("one", {**OPENAI, **changes}, ())

    assert refused.value.param == path


@pytest.mark.parametrize("document", [None, [], "openai", 7])
def test_what_is_no_object_is_refused(document: object) -> None:
    with pytest.raises(InvalidRequest):
        document_to_upstream("one", document, ())


@pytest.mark.parametrize("name", ["", "A", "a/b", "-a", "a b", "a" * 64, "ü"])
def test_a_name_that_could_not_stand_in_a_price_key_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        document_to_upstream(name, OPENAI, ())

    assert refused.value.param == "name"


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "http://169.254.170.2",
        "http://[fe80::1]/v1",
        "http://[fe80::1%25eth0]/v1",
        "http://[::ffff:169.254.169.254]/v1",
        "http://[64:ff9b::a9fe:a9fe]/v1",
        "http://[fd00:ec2::254]/v1",
        "http://2852039166/v1",
        "http://0xa9fea9fe/v1",
        "http://0251.0376.0251.0376/v1",
        "http://169.254.43518/v1",
        "http://100.100.100.200/v1",
        "http://168.63.129.16/v1",
        "http://0.0.0.0:9000/v1",
        "http://metadata.google.internal/v1",
        "http://METADATA.google.internal./v1",
        "ftp://host/v1",
        "https:///v1",
        "https://user:secret@host/v1",
        "https://host/v1?key=secret",
        "https://host/v1#part",
        "https://host/v1 ",
        "https://ho\nst/v1",
        "https://höst/v1",
        "https://[::1/v1",
        "https://host:99999/v1",
        f"https://host/{'v' * 2_000}",
    ],
)
def test_an_address_that_no_provider_has_is_refused(url: str) -> None:
    with pytest.raises(UpstreamAddressNotAllowed) as refused:
        document_to_upstream("one", {**OPENAI, "base_url": url}, ())

    assert "secret" not in refused.value.message.replace("a secret belongs", "")


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "http://vllm.models.svc:8000/v1",
        "http://10.1.2.3:8000/v1",
        "http://127.0.0.1:8000/v1",
        "http://[::1]:8000/v1",
        "http://[fd00::1]:8000/v1",
        "http://localhost:8000",
    ],
)
def test_providers_and_models_of_ones_own_are_allowed(url: str) -> None:
    assert document_to_upstream("one", {**OPENAI, "base_url": url}, ()).document["base_url"] == url


def test_an_operator_may_allow_a_host() -> None:
    document = {**OPENAI, "base_url": "http://169.254.10.1:8000/v1"}

    assert document_to_upstream("one", document, {"169.254.10.1"}).name == "one"


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({**RERANKERS[0], "encoding": "cl100k_base"}, "encoding"),
        ({**RERANKERS[1], "shares_prompt_cache": False}, "shares_prompt_cache"),
        ({**RERANKERS[2], "max_documents_per_call": 9}, "max_documents_per_call"),
        ({**RERANKERS[3], "max_documents_per_call": 0}, "max_documents_per_call"),
        ({**RERANKERS[3], "max_documents_per_call": 1001}, "max_documents_per_call"),
        ({"kind": "cohere"}, "base_url"),
    ],
)
def test_a_reranker_has_the_fields_of_its_kind_only(document: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        document_to_upstream("one", document, ())

    assert refused.value.param == path


def test_a_server_of_rerankers_takes_as_many_documents_as_its_default_says() -> None:
    assert document_to_upstream("one", {**RERANKERS[3]}, ()).document["max_documents_per_call"] == 64
    without = {name: value for name, value in RERANKERS[3].items() if name != "max_documents_per_call"}
    assert document_to_upstream("one", without, ()).document["max_documents_per_call"] == 32

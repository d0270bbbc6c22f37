"""Documents become the configuration that the settings have."""

from datetime import timedelta
from typing import Any

import pytest
from inference_worker.providers.anthropic.config import AnthropicConfig
from inference_worker.providers.litellm import LitellmConfig
from inference_worker.providers.openai.config import OpenaiConfig
from inference_worker.providers.rerankers.config import CohereConfig, JinaConfig, TeiConfig, VoyageConfig
from inference_worker.upstreams.model import UpstreamDocument
from inference_worker.upstreams.open import document_to_config

COMMON = {
    "description": "ours",
    "requires_credential": True,
    "encoding": None,
    "shares_prompt_cache": False,
    "tenant_cache_field": "cache_salt",
    "capabilities": {"tools": True},
}
HTTP = {
    "base_url": "http://models:8000/v1",
    "connect_timeout_seconds": 2.5,
    "keep_alive_seconds": 9,
    "max_connections": 7,
    "max_response_bytes": 2_048,
}


def config_of(document: dict[str, Any], *, allow: bool = False) -> Any:
    return document_to_config(UpstreamDocument("one", document), allow_link_local=allow)


def test_every_field_of_an_openai_upstream_arrives() -> None:
    config = config_of({"kind": "openai", **COMMON, **HTTP})

    assert isinstance(config, OpenaiConfig)
    assert (config.base_url, config.max_connections, config.max_response_bytes) == (HTTP["base_url"], 7, 2_048)
    assert (config.connect_timeout, config.keep_alive) == (timedelta(seconds=2.5), timedelta(seconds=9))
    assert (config.encoding, config.shares_prompt_cache, config.tenant_cache_field) == (None, False, "cache_salt")
    assert config.refuse_link_local
    assert config.api_key is None


def test_the_other_kinds_have_their_own_fields() -> None:
    anthropic = config_of({"kind": "anthropic", **COMMON, **HTTP, "version": "2024-01-01"}, allow=True)
    gemini = config_of({"kind": "litellm", **COMMON, "base_url": None, "litellm_provider": "gemini"})

    assert isinstance(anthropic, AnthropicConfig)
    assert (anthropic.version, anthropic.refuse_link_local) == ("2024-01-01", False)
    assert isinstance(gemini, LitellmConfig)
    assert (gemini.litellm_provider, gemini.base_url) == ("gemini", None)


def test_upstreams_that_only_score_documents_are_opened_by_their_kinds() -> None:
    http = {**HTTP, "requires_credential": False, "capabilities": {}}
    cohere, jina, voyage = (config_of({"kind": kind, **http}) for kind in ("cohere", "jina", "voyage"))
    tei = config_of({"kind": "tei", **http, "max_documents_per_call": 7})

    assert [type(one) for one in (cohere, jina, voyage, tei)] == [CohereConfig, JinaConfig, VoyageConfig, TeiConfig]
    assert (cohere.max_connections, cohere.refuse_link_local, cohere.documents_per_call()) == (7, True, 1000)
    assert tei.documents_per_call() == 7


def test_a_field_of_a_later_version_is_left_out() -> None:
    assert config_of({"kind": "openai", **COMMON, **HTTP, "speed": "fast"})


@pytest.mark.parametrize(
    "document", [{}, {"kind": "telepathy"}, {"kind": "openai"}, {"kind": "onnx", "path": "/etc/passwd"}]
)
def test_a_document_that_cannot_be_read_is_a_value_error_that_names_the_upstream(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="'one'"):
        config_of(document)

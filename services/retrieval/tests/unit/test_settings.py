"""Settings come from the environment, and invalid ones are rejected."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from chassis.testing import SECRET
from pydantic import ValidationError
from retrieval.quotas.model import Quota
from retrieval.settings import QuotasSection, Settings

REQUIRED = {
    "RETRIEVAL_POSTGRES__DSN": "postgresql://retrieval_app@localhost/argosy",
    "RETRIEVAL_PRINCIPAL__SECRETS": SECRET,
    "RETRIEVAL_KAFKA__SIGNING_KEYS": f"key-1:{SECRET}",
    "RETRIEVAL_OBJECTS__URL": "file:///tmp/objects",
}


def settings(monkeypatch: pytest.MonkeyPatch, **changes: str) -> Settings:
    for name, value in (REQUIRED | changes).items():
        monkeypatch.setenv(name, value)
    return Settings()


def test_optional_settings_have_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    made = settings(monkeypatch)

    assert made.kafka.group == "retrieval"
    assert made.embedding.model == "all-minilm-l6-v2"
    assert made.embedding.tokenizer is None
    assert made.objects.max_upload_bytes == 512 * 1024 * 1024
    assert made.ingestion.max_bytes == 64 * 1024 * 1024


def test_sections_are_named_by_two_underscores(monkeypatch: pytest.MonkeyPatch) -> None:
    made = settings(
        monkeypatch,
        RETRIEVAL_EMBEDDING__TOKENIZER="/models/tokenizer.json",
        RETRIEVAL_EMBEDDING__DEADLINE="PT30S",
        RETRIEVAL_INGESTION__SLOTS="4",
        RETRIEVAL_PEERS__ORCHESTRATOR="orchestrator:9000",
    )

    assert made.embedding.tokenizer == Path("/models/tokenizer.json")
    assert made.embedding.deadline == timedelta(seconds=30)
    assert (made.ingestion.slots, made.peers.orchestrator) == (4, "orchestrator:9000")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RETRIEVAL_INGESTION__SLOTS", "0"),
        ("RETRIEVAL_INGESTION__BATCH_SIZE", "1000"),
        ("RETRIEVAL_PARSER__MEMORY_BYTES", "1000"),
        ("RETRIEVAL_EMBEDDING__DEADLINE", "PT0S"),
        ("RETRIEVAL_PRINCIPAL__SECRETS", "changeme"),
        ("RETRIEVAL_OBJECTS__URL", "/var/objects"),
        ("RETRIEVAL_OBJECTS__URL", "file://objects"),
        ("RETRIEVAL_OBJECTS__URL", "s3://key:hunter2@bucket"),
        ("RETRIEVAL_OBJECTS__URL", "s3:///prefix"),
        ("RETRIEVAL_PEERS__ORCHESTRATOR", "orchestrator"),
    ],
)
def test_an_invalid_setting_is_rejected(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(ValidationError):
        settings(monkeypatch, **{name: value})


@pytest.mark.parametrize("name", REQUIRED)
def test_settings_without_a_default_are_required(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for other, value in REQUIRED.items():
        monkeypatch.setenv(other, value)
    monkeypatch.delenv(name)

    with pytest.raises(ValidationError):
        Settings()


def test_quotas_are_given_by_plan() -> None:
    section = QuotasSection.model_validate({"default": {"files": 10}, "plans": {"free": {"chunks": 5}, "team": {}}})

    quotas = section.quotas()

    assert quotas.of("unknown") == Quota(files=10)
    assert quotas.of("free") == Quota(chunks=5)
    assert quotas.of("team") == Quota()
    with pytest.raises(ValidationError):
        QuotasSection.model_validate({"default": {"files": -1}})

"""Signatures, as the specification's own library verifies them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from orchestrator.webhooks.model import event_payload
from orchestrator.webhooks.sign import new_secret, sign
from standardwebhooks import Webhook, WebhookVerificationError

PAYLOAD = event_payload("job.succeeded", datetime(2026, 1, 1, tzinfo=UTC), {"id": "job_1", "text": "Grüße ✓"})


def test_the_library_verifies_a_delivery() -> None:
    secret = new_secret()

    headers = sign([secret], "evt_1", datetime.now(UTC), PAYLOAD)

    assert Webhook(secret).verify(PAYLOAD, dict(headers))["data"]["text"] == "Grüße ✓"


def test_both_secrets_verify_while_they_are_rotated() -> None:
    new, old = new_secret(), new_secret()

    headers = dict(sign([new, old], "evt_1", datetime.now(UTC), PAYLOAD))

    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (new, old):
        Webhook(secret).verify(PAYLOAD, headers)


@pytest.mark.parametrize("part", ["webhook-id", "webhook-timestamp", "webhook-signature", "body"])
def test_what_was_changed_is_not_verified(part: str) -> None:
    secret = new_secret()
    headers = dict(sign([secret], "evt_1", datetime.now(UTC), PAYLOAD))
    body = PAYLOAD
    if part == "body":
        body = PAYLOAD.replace(b"job_1", b"job_2")
    elif part == "webhook-timestamp":
        headers[part] = str(int(headers[part]) + 1)
    else:
        headers[part] = headers[part].replace("1", "2", 1)

    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, headers)


def test_a_retry_days_later_has_a_fresh_timestamp_and_the_same_id() -> None:
    secret, now = new_secret(), datetime.now(UTC)

    first = sign([secret], "evt_1", now - timedelta(days=3), PAYLOAD)
    retry = sign([secret], "evt_1", now, PAYLOAD)

    assert first["webhook-id"] == retry["webhook-id"]
    Webhook(secret).verify(PAYLOAD, dict(retry))
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(PAYLOAD, dict(first))


def test_secrets_have_the_form_and_size_of_the_specification() -> None:
    prefix, _, text = new_secret().partition("_")

    assert prefix == "whsec"
    assert 24 <= len(base64.b64decode(text, validate=True)) <= 64
    assert new_secret() != new_secret()

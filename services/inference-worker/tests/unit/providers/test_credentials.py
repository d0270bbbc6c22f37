"""A provider call sends the credential that it is given, and only that one."""

import pytest
from inference_worker.providers.credentials import Credential, StaticCredentials
from inference_worker.providers.transport.http import Endpoint, HttpClient

CREDENTIAL = Credential("crd_1", "*", "secret-of-this-call")


def client(**fields: object) -> HttpClient:
    headers = {"authorization": "Bearer configured"}
    return HttpClient(Endpoint("http://localhost:1", headers, **fields))  # type: ignore[arg-type]


def head_of(http: HttpClient, credential: Credential | None) -> bytes:
    return http._head("/chat", credential is not None) + http._head_end(2, credential)


def test_the_credential_of_a_call_replaces_the_configured_one():
    head = head_of(client(credential_header=("authorization", "Bearer ")), CREDENTIAL)
    assert b"authorization: Bearer secret-of-this-call\r\n" in head
    assert b"configured" not in head
    assert head.endswith(b"\r\n\r\n")


def test_without_a_credential_the_configured_one_is_sent():
    head = head_of(client(credential_header=("authorization", "Bearer ")), None)
    assert b"authorization: Bearer configured\r\n" in head
    assert head.endswith(b"content-length: 2\r\n\r\n")


def test_a_configured_header_that_overrides_credentials_stays():
    head = head_of(client(), CREDENTIAL)
    assert b"Bearer configured" in head
    assert b"secret-of-this-call" not in head


@pytest.mark.parametrize("secret", ["two\r\nlines", "s\u00fc\u00df", " padded", "tab\tinside"])
def test_a_secret_that_would_change_the_request_is_refused(secret: str):
    with pytest.raises(ValueError, match="cannot be sent"):
        Credential("crd_1", "*", secret)


def test_a_credential_does_not_show_its_secret():
    assert "secret-of-this-call" not in repr(CREDENTIAL)


def test_static_credentials_are_for_all_tenants():
    assert list(StaticCredentials([CREDENTIAL]).of("ten_1")) == [CREDENTIAL]

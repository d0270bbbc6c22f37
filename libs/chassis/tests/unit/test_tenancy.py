import asyncio
import base64
import json
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import jwt
import pytest
from chassis.errors import Kind, PermissionDenied
from chassis.tenancy import (
    Principal,
    PrincipalInvalid,
    PrincipalSigner,
    PrincipalVerifier,
    as_caller,
    current_caller,
    find_caller,
)
from chassis.testing import SECRET, FakeClock, a_caller, a_principal, a_signer, a_verifier

OTHER_SECRET = "another-secret-for-tests-and-nothing-else"
FULL = Principal("ten_1", "prj_1", "key_1", "usr_1", frozenset({"admin", "service"}), "pro")


def claims(clock: FakeClock, **changes: Any) -> dict[str, Any]:
    """Claims of a valid token with `changes`; None removes a claim."""
    now = int(clock.now().timestamp())
    all_of_them = {"iss": "tests", "iat": now, "exp": now + 60, "tenant_id": "ten_1"} | changes
    return {name: value for name, value in all_of_them.items() if value is not None}


@pytest.mark.parametrize("principal", [FULL, Principal("ten_1")])
def test_what_is_signed_is_verified_field_by_field(principal: Principal) -> None:
    clock = FakeClock()

    assert a_verifier(clock).verify(a_signer(clock).sign(principal)) == principal


def test_a_token_names_its_issuer() -> None:
    token = a_signer(issuer="gateway").sign(FULL)

    assert jwt.decode(token, options={"verify_signature": False})["iss"] == "gateway"


def test_a_token_is_good_until_it_expires_also_when_it_was_verified_before() -> None:
    clock = FakeClock()
    signer = PrincipalSigner(SECRET, "tests", clock, lifetime=timedelta(minutes=5))
    verifier = a_verifier(clock)
    token = signer.sign(FULL)

    verifier.verify(token)
    clock.advance(timedelta(minutes=4, seconds=59))
    verifier.verify(token)
    clock.advance(timedelta(seconds=1))
    for judge in (verifier, a_verifier(clock)):
        with pytest.raises(PrincipalInvalid, match="expired"):
            judge.verify(token)


def test_a_token_is_reused_while_half_of_its_lifetime_is_left() -> None:
    clock = FakeClock()
    signer = PrincipalSigner(SECRET, "tests", clock, lifetime=timedelta(minutes=5))
    token = signer.sign(FULL)

    clock.advance(timedelta(minutes=2))
    assert signer.sign(FULL) is token
    clock.advance(timedelta(seconds=30))
    fresh = signer.sign(FULL)
    assert fresh != token
    assert a_verifier(clock).verify(fresh) == FULL


def test_what_another_secret_signed_is_refused() -> None:
    clock = FakeClock()
    forged = PrincipalSigner(OTHER_SECRET, "tests", clock).sign(FULL)

    with pytest.raises(PrincipalInvalid) as caught:
        a_verifier(clock).verify(forged)
    assert caught.value.kind is Kind.UNAUTHENTICATED


def test_while_a_secret_is_replaced_both_are_believed() -> None:
    clock = FakeClock()
    verifier = PrincipalVerifier([OTHER_SECRET, SECRET], clock)

    for secret in (SECRET, OTHER_SECRET):
        assert verifier.verify(PrincipalSigner(secret, "tests", clock).sign(FULL)) == FULL


def test_a_token_without_a_signature_is_refused() -> None:
    clock = FakeClock()
    unsigned = jwt.encode(claims(clock), "", algorithm="none")

    with pytest.raises(PrincipalInvalid):
        a_verifier(clock).verify(unsigned)


def test_a_token_of_another_algorithm_is_refused_though_the_secret_is_right() -> None:
    clock = FakeClock()
    secret = SECRET * 2  # long enough for HS512
    token = jwt.encode(claims(clock), secret, algorithm="HS512")

    with pytest.raises(PrincipalInvalid):
        PrincipalVerifier([secret], clock).verify(token)


def test_a_token_whose_claims_were_changed_is_refused() -> None:
    clock = FakeClock()
    head, body, signature = a_signer(clock).sign(FULL).split(".")
    read = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed = base64.urlsafe_b64encode(json.dumps(read | {"tenant_id": "ten_2"}).encode()).rstrip(b"=").decode()

    with pytest.raises(PrincipalInvalid):
        a_verifier(clock).verify(f"{head}.{changed}.{signature}")


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": None},
        {"iat": None},
        {"exp": None},
        {"tenant_id": None},
        {"tenant_id": ""},
        {"tenant_id": 7},
        {"exp": "tomorrow"},
        {"exp": True},
        {"roles": "admin"},
        {"roles": [1]},
        {"plan": ["pro"]},
    ],
)
def test_a_signed_token_with_missing_or_malformed_claims_is_refused(changes: dict[str, Any]) -> None:
    clock = FakeClock()
    token = jwt.encode(claims(clock, **changes), SECRET, algorithm="HS256")

    with pytest.raises(PrincipalInvalid):
        a_verifier(clock).verify(token)


def test_clocks_may_differ_a_little_and_not_much() -> None:
    signers, judges = FakeClock(), FakeClock()
    signers.advance(timedelta(seconds=20))
    assert a_verifier(judges).verify(a_signer(signers).sign(FULL)) == FULL

    signers.advance(timedelta(seconds=20))
    with pytest.raises(PrincipalInvalid, match="future"):
        a_verifier(judges).verify(a_signer(signers).sign(a_principal("ten_2")))


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "ü.ü.ü", "\x00", "a" * 100_000])
def test_what_is_no_token_at_all_is_refused(token: str) -> None:
    with pytest.raises(PrincipalInvalid):
        a_verifier().verify(token)


def test_a_verifier_without_secrets_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="secrets"):
        PrincipalVerifier([], FakeClock())


def test_the_caches_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.tenancy.CACHE_SIZE", 2)
    encode, decode = Mock(wraps=jwt.encode), Mock(wraps=jwt.decode)
    monkeypatch.setattr(jwt, "encode", encode)
    monkeypatch.setattr(jwt, "decode", decode)
    signer, verifier = a_signer(), a_verifier()
    tokens = [signer.sign(a_principal(f"ten_{n}")) for n in range(5)]
    for token in tokens:
        verifier.verify(token)

    for n in (4, 3):
        signer.sign(a_principal(f"ten_{n}"))
        verifier.verify(tokens[n])
    assert encode.call_count == decode.call_count == 5

    assert signer.sign(a_principal("ten_0")) == tokens[0]
    assert verifier.verify(tokens[0]) == a_principal("ten_0")
    assert encode.call_count == decode.call_count == 6


def test_a_role_is_required_by_name() -> None:
    FULL.require("admin")
    with pytest.raises(PermissionDenied, match="owner"):
        FULL.require("owner")


async def test_the_caller_belongs_to_its_context_and_no_other() -> None:
    with pytest.raises(PrincipalInvalid):
        current_caller()

    async def in_a_task_of_its_own() -> str:
        with as_caller(a_caller(a_principal("ten_2"))):
            await asyncio.sleep(0)
            return current_caller().principal.tenant_id

    with as_caller(a_caller(a_principal("ten_1"), "req_1")):
        assert await asyncio.create_task(in_a_task_of_its_own()) == "ten_2"
        assert current_caller().principal.tenant_id == "ten_1"
        assert current_caller().request_id == "req_1"
    assert find_caller() is None


def test_a_caller_whose_block_ends_in_another_context_leaves_no_trace_of_an_error() -> None:
    import contextvars

    block = as_caller(a_caller())
    contextvars.copy_context().run(block.__enter__)

    block.__exit__(None, None, None)

    assert find_caller() is None

from datetime import timedelta

import pytest
from chassis.errors import ArgosyError, InvalidRequest, Kind, RemoteError, declared_errors, meaning


def test_the_code_is_the_reason_in_lower_case() -> None:
    error = InvalidRequest("The limit is negative.", param="limit", retry_after=timedelta(seconds=2))

    assert error.code == "invalid_request"
    assert str(error) == error.message == "The limit is negative."
    assert (error.kind, error.param, error.retry_after) == (Kind.INVALID, "limit", timedelta(seconds=2))


def test_a_remote_error_has_the_fields_of_the_peer() -> None:
    error = RemoteError(Kind.NOT_FOUND, "VECTOR_STORE_NOT_FOUND", "There is no vs_1.", param="id")

    assert (error.kind, error.code, error.message, error.param) == (
        Kind.NOT_FOUND,
        "vector_store_not_found",
        "There is no vs_1.",
        "id",
    )


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"reason": "LOST", "__doc__": "It is lost."}, "kind must be a Kind"),
        ({"kind": "invalid", "reason": "LOST", "__doc__": "It is lost."}, "kind must be a Kind"),
        ({"kind": Kind.INVALID, "__doc__": "It is lost."}, "reason of its own"),
        ({"kind": Kind.INVALID, "reason": "lost", "__doc__": "It is lost."}, "reason of its own"),
        ({"kind": Kind.INVALID, "reason": "LOST"}, "docstring"),
        ({"kind": Kind.INVALID, "reason": "LOST", "__doc__": " "}, "docstring"),
    ],
)
def test_a_state_that_could_not_be_documented_is_refused(body: dict[str, object], complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        type("Lost", (ArgosyError,), body)


def test_a_reason_is_not_inherited() -> None:
    with pytest.raises(TypeError, match="reason of its own"):
        type("Lost", (InvalidRequest,), {"__doc__": "It is lost."})


def test_every_concrete_state_is_listed_with_its_meaning_and_abstract_ones_are_not() -> None:
    listed = declared_errors()

    assert InvalidRequest in listed
    assert RemoteError not in listed
    assert [error.reason for error in listed] == sorted(error.reason for error in listed)
    assert meaning(InvalidRequest).startswith("The request is invalid")


def test_the_public_list_has_no_error_that_is_not_public() -> None:
    class _StartUpFailed(ArgosyError, public=False):
        """It never reaches a client."""

        kind, reason = Kind.INTERNAL, "START_UP_FAILED"

    assert InvalidRequest.public
    assert not _StartUpFailed.public
    assert _StartUpFailed in declared_errors()
    assert _StartUpFailed not in declared_errors(public_only=True)
    assert InvalidRequest in declared_errors(public_only=True)

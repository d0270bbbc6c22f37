import pytest
from inference_worker.adapters import anthropic_events
from inference_worker.adapters.documents import usage_of
from inference_worker.domain.usage import Usage, UsageSource

# The books refuse an event in which one call used more, and with it the account of the whole request.
MOST_BOOKED = 1_000_000_000


def test_counts_are_taken_as_they_are_said():
    said = {"usage": {"prompt_tokens": 0, "completion_tokens": MOST_BOOKED}}

    assert usage_of(said) == Usage(UsageSource.REPORTED, 0, MOST_BOOKED)


@pytest.mark.parametrize("count", [-1, True, 2.0, "2", None, MOST_BOOKED + 1, 2**63])
def test_a_count_that_cannot_be_is_none(count: object):
    assert usage_of({"usage": {"prompt_tokens": count, "completion_tokens": 1}}) is None
    assert usage_of({"usage": {"prompt_tokens": 1, "completion_tokens": count}}) is None


def test_counts_of_a_cache_that_cannot_be_together_are_none():
    said = {"input_tokens": MOST_BOOKED, "cache_read_input_tokens": MOST_BOOKED, "output_tokens": 1}

    assert anthropic_events.usage_of(said) is None

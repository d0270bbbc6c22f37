import pytest
from inference_worker.providers.anthropic.events import message_usage
from inference_worker.providers.reported_usage import openai_usage
from values.money import MAX_TOKENS
from values.usage import TokenUsage, UsageSource


def test_plausible_counts_are_read():
    completion = {"usage": {"prompt_tokens": 0, "completion_tokens": MAX_TOKENS}}

    assert openai_usage(completion) == TokenUsage(UsageSource.REPORTED, 0, MAX_TOKENS)


@pytest.mark.parametrize("count", [-1, True, 2.0, "2", None, MAX_TOKENS + 1, 2**63])
def test_an_implausible_count_makes_the_usage_none(count: object):
    assert openai_usage({"usage": {"prompt_tokens": count, "completion_tokens": 1}}) is None
    assert openai_usage({"usage": {"prompt_tokens": 1, "completion_tokens": count}}) is None


def test_an_implausible_sum_with_cached_tokens_makes_the_usage_none():
    counts = {"input_tokens": MAX_TOKENS, "cache_read_input_tokens": MAX_TOKENS, "output_tokens": 1}

    assert message_usage(counts) is None

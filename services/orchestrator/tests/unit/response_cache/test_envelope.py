import pytest
from orchestrator.response_cache.envelope import COMPRESS_BYTES, MAGIC, pack, unpack
from orchestrator.response_cache.model import CachedAnswer, CacheKey
from values.usage import TokenUsage, UsageSource

KEY = CacheKey("ten_a", "smollm2", "ab" * 32)
USAGE = TokenUsage(UsageSource.REPORTED, 12, 3)
ANSWER = CachedAnswer(
    [b'{"choices":[{"delta":{"content":"\xc3\xa9"}}]}', b"{}", b'{"x":1}'],
    b'{"usage":{}}',
    USAGE,
    "local/m",
    "prc_1",
    5,
    ("The field é was dropped.",),
)
LARGE = ANSWER._replace(payloads=[b'{"delta":"%d"}' % number for number in range(COMPRESS_BYTES // 8)])


@pytest.mark.parametrize("answer", [ANSWER, LARGE, ANSWER._replace(payloads=[b"{}"], usage_payload=b"")])
def test_an_answer_is_read_as_it_was_kept_event_by_event(answer: CachedAnswer) -> None:
    data = pack(answer, KEY)
    assert unpack(data, KEY) == answer
    if answer is LARGE:
        assert len(data) < sum(map(len, answer.payloads))


@pytest.mark.parametrize("answer", [ANSWER, LARGE])
def test_an_entry_cut_at_any_length_is_no_answer(answer: CachedAnswer) -> None:
    data = pack(answer, KEY)
    lengths = range(len(data)) if len(data) < 1_000 else {*range(64), *range(0, len(data), 97), len(data) - 1}
    assert all(unpack(data[:length], KEY) is None for length in lengths)
    assert unpack(data + b"x", KEY) is None


def test_an_entry_with_any_bit_changed_is_no_answer() -> None:
    data = pack(ANSWER, KEY)
    for place in range(len(data)):
        assert unpack(data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :], KEY) is None


def test_an_entry_of_another_version_is_no_answer() -> None:
    data = pack(ANSWER, KEY)
    assert data.startswith(MAGIC)
    assert unpack(b"AC" + (2).to_bytes(2, "big") + data[4:], KEY) is None


@pytest.mark.parametrize("other", [KEY._replace(tenant_id="ten_b"), KEY._replace(digest="cd" * 32)])
def test_an_entry_moved_to_another_key_is_no_answer(other: CacheKey) -> None:
    assert unpack(pack(ANSWER, KEY), other) is None

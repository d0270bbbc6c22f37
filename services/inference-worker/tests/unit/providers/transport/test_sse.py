import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_worker.adapters.sse import EventSplitter
from inference_worker.domain.failures import UpstreamGarbage

# JSON never holds raw line ends, which is what makes it safe to cut at them.
PAYLOADS = st.dictionaries(st.text(max_size=8), st.text(), max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False).encode()
)
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Payloads, and a stream that holds them among what the standard allows beside them."""
    payloads = draw(st.lists(PAYLOADS, max_size=6))
    end = draw(LINE_ENDS)
    stream = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    for payload in payloads:
        lines = [b"data:" + draw(st.sampled_from([b"", b" "])) + payload]
        if draw(st.booleans()):
            lines.insert(0, b"event: message")
        if draw(st.booleans()):
            lines.append(b"id: 7")
        if draw(st.booleans()):
            stream += b": keep-alive" + end + end
        stream += end.join(lines) + end + end + draw(st.sampled_from([b"", end]))
    return payloads, stream


@given(streams(), st.data())
def test_however_the_stream_is_split_the_payloads_are_the_same(stream: tuple[list[bytes], bytes], data: st.DataObject):
    payloads, sent = stream
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=20)))
    splitter = EventSplitter(max_event_bytes=1 << 20)

    found = []
    for start, stop in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        found += splitter.feed(sent[start:stop])
    found += splitter.end()

    assert found == payloads


@given(streams())
def test_a_stream_of_single_bytes_holds_the_same_payloads(stream: tuple[list[bytes], bytes]):
    payloads, sent = stream
    splitter = EventSplitter(max_event_bytes=1 << 20)

    found = [payload for byte in sent for payload in splitter.feed(bytes([byte]))] + splitter.end()

    assert found == payloads


def test_payloads_that_arrive_together_come_out_together():
    splitter = EventSplitter(1024)

    assert splitter.feed(b"data: {}\n\ndata: []\n\ndata: ") == [b"{}", b"[]"]
    assert splitter.feed(b"1\n\n") == [b"1"]


def test_several_data_lines_are_one_payload():
    assert EventSplitter(1024).feed(b'data: {"a":\ndata: 1}\n\n') == [b'{"a":\n1}']


def test_events_without_data_are_dropped():
    assert EventSplitter(1024).feed(b": ping\n\nevent: x\n\nretry: 3\n\ndata:\n\ndata: \n\n") == []


def test_a_last_event_without_its_blank_line_is_found_at_the_end():
    splitter = EventSplitter(1024)

    assert splitter.feed(b"data: [DONE]") == []
    assert splitter.end() == [b"[DONE]"]
    assert splitter.end() == []


def test_an_event_without_an_end_is_given_up():
    splitter = EventSplitter(max_event_bytes=100)
    splitter.feed(b"data: " + b"x" * 90)

    with pytest.raises(UpstreamGarbage):
        splitter.feed(b"data: xxxx")

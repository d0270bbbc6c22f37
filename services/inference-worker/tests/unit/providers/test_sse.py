import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_worker.providers.model import UpstreamProtocolError
from inference_worker.providers.transport.sse import SseDecoder

# JSON never holds raw line ends, so events can be split at them.
PAYLOADS = st.dictionaries(st.text(max_size=8), st.text(), max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False).encode()
)
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Payloads, and a stream that holds them between other fields that the standard allows."""
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
    decoder = SseDecoder(max_event_bytes=1 << 20)

    decoded = []
    for start, stop in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        decoded += decoder.feed(sent[start:stop])
    decoded += decoder.flush()

    assert decoded == payloads


@given(streams())
def test_a_stream_of_single_bytes_holds_the_same_payloads(stream: tuple[list[bytes], bytes]):
    payloads, sent = stream
    decoder = SseDecoder(max_event_bytes=1 << 20)

    decoded = [payload for byte in sent for payload in decoder.feed(bytes([byte]))] + decoder.flush()

    assert decoded == payloads


def test_payloads_that_arrive_together_come_out_together():
    decoder = SseDecoder(1024)

    assert decoder.feed(b"data: {}\n\ndata: []\n\ndata: ") == [b"{}", b"[]"]
    assert decoder.feed(b"1\n\n") == [b"1"]


def test_several_data_lines_are_one_payload():
    assert SseDecoder(1024).feed(b'data: {"a":\ndata: 1}\n\n') == [b'{"a":\n1}']


def test_events_without_data_are_dropped():
    assert SseDecoder(1024).feed(b": ping\n\nevent: x\n\nretry: 3\n\ndata:\n\ndata: \n\n") == []


def test_a_last_event_without_its_blank_line_is_found_at_the_end():
    decoder = SseDecoder(1024)

    assert decoder.feed(b"data: [DONE]") == []
    assert decoder.flush() == [b"[DONE]"]
    assert decoder.flush() == []


def test_an_event_without_an_end_is_a_protocol_error():
    decoder = SseDecoder(max_event_bytes=100)
    decoder.feed(b"data: " + b"x" * 90)

    with pytest.raises(UpstreamProtocolError):
        decoder.feed(b"data: xxxx")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_ends_with_its_blank_line_whatever_line_ends_are(end: bytes):
    decoder = SseDecoder(1024)

    assert decoder.feed(b"event: x" + end + b"data: 1" + end + end) == [b"1"]
    assert decoder.names == [b"x"]
    assert decoder.feed(b"data: 2" + end + end) == [b"2"]
    assert decoder.names is None


def test_a_line_end_that_is_split_is_one_line_end():
    decoder = SseDecoder(1024)

    assert decoder.feed(b"data: 1\r") == []
    assert decoder.feed(b"\ndata: 2\r\n\r") == [b"1\n2"]
    assert decoder.feed(b"\ndata: 3\n\n") == [b"3"]


@pytest.mark.parametrize(
    ("event", "name", "data"),
    [
        (b"event: a\nevent: b\ndata: 1", b"b", b"1"),
        (b"event:a\ndata:1", b"a", b"1"),
        (b"event: message\ndata: 1", b"", b"1"),
        (b"event\ndata: 1", b"", b"1"),
        (b": data: 0\ndata: 1\nunknown: 2\ndatas: 3", b"", b"1"),
        (b"data:  1", b"", b" 1"),
        (b"id: 1\nretry: 5\ndata: a:b", b"", b"a:b"),
        (b"data: 1\ndata\ndata: 2", b"", b"1\n\n2"),
    ],
)
def test_fields_are_read_as_the_standard_says(event: bytes, name: bytes, data: bytes):
    decoder = SseDecoder(1024)

    assert decoder.feed(event + b"\n\n") == [data]
    assert decoder.names == ([name] if name else None)

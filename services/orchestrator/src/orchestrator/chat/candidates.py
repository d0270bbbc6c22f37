"""Making a route's candidates ready: a body each, and the most that it can consume."""

from collections.abc import Mapping, Sequence

from orchestrator.domain.chat import Chat, media_of
from orchestrator.domain.plan import Bound, Candidate
from orchestrator.domain.ports import Bodies
from orchestrator.domain.routes import RouteCandidate

TEMPLATE_TOKENS = 256
"""What a chat template may add that is in no byte of the body: a default system prompt, marks around messages."""

MEDIA_TOKENS = 50_000
"""The most that one image, sound or file in a message counts: above the dearest published tariff of a single image."""

INPUT_MARKS = 8
"""What an embedding model adds around each input: marks of its beginning and end."""


def price_key(candidate: RouteCandidate) -> str:
    """Return the candidate's key in the price book."""
    return f"{candidate.upstream}/{candidate.model}"


def chat_candidates(
    chat: Chat, routed: Sequence[RouteCandidate], *, stream: bool, bodies: Bodies
) -> tuple[Candidate, ...]:
    """Make the body of each candidate ready to send, with a limit on its output, and bound what it can consume."""
    media = media_of(chat.document)
    return tuple(_chat_candidate(chat, candidate, stream, bodies, media) for candidate in routed)


def _chat_candidate(
    chat: Chat, candidate: RouteCandidate, stream: bool, bodies: Bodies, media: Sequence[int]
) -> Candidate:
    limit = min(chat.output_limit or candidate.max_output_tokens, candidate.max_output_tokens)
    body = bodies.render(_ready(chat.document, candidate, limit, stream))
    bound = Bound(price_key(candidate), input_bound(body, media), limit * chat.answers)
    return Candidate(candidate.upstream, candidate.model, bound, body)


def _ready(document: Mapping[str, object], candidate: RouteCandidate, limit: int, stream: bool) -> dict[str, object]:
    ready = {**document, "model": candidate.model, candidate.limit_field: limit, "stream": stream}
    asked = ready.pop("stream_options", None)
    if stream:
        # The bill needs the usage, whatever the client asked for; the worker keeps that chunk out of the stream.
        options = asked if isinstance(asked, dict) else {}
        ready["stream_options"] = {**options, "include_usage": True}
    return ready


def input_bound(body: bytes, media: Sequence[int]) -> int:
    """Return the most tokens that a model can read from `body`; `media` are the bytes of each inlined media part.

    Every token of a tokenizer that works on bytes or characters stands for at least one byte of UTF-8, so there are no
    more tokens than bytes: the JSON around the text is read by nobody and is to spare. Two things are in no byte: what
    the chat template adds (`TEMPLATE_TOKENS`), and what an image costs, which depends on its size in pixels
    (`MEDIA_TOKENS` each instead of its base64). A tokenizer that breaks this, by normalizing one character into many,
    makes a bill above the bound, and metering books the excess to exposure, not to the tenant.
    """
    return len(body) - sum(media) + MEDIA_TOKENS * len(media) + TEMPLATE_TOKENS


def embedding_candidates(inputs: Sequence[str], routed: Sequence[RouteCandidate]) -> tuple[Candidate, ...]:
    """Bound what each reads: a byte per token at least, and the marks around each input. It writes nothing."""
    most = sum(len(text.encode()) for text in inputs) + INPUT_MARKS * len(inputs)
    return tuple(
        Candidate(candidate.upstream, candidate.model, Bound(price_key(candidate), most, 0)) for candidate in routed
    )

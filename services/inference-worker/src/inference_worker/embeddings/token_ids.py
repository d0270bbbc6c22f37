"""The texts of token ids, for providers that take texts only."""

import asyncio
from collections.abc import Callable, Sequence

from chassis.errors import InvalidRequest
from values.embeddings import max_text_bytes

from inference_worker.providers.model import Blame, UpstreamFailed

ENCODING = "cl100k_base"
"""That of OpenAI's embedding models, and of clients that do not know the model."""


TokenBytes = Callable[[int], bytes]
"""Returns the bytes of a token. Raises `KeyError` for an id that the encoding does not have."""

LoadTokenBytes = Callable[[str], TokenBytes]
"""Loads an encoding by its name. Raises `ImportError` or `OSError` where it is not installed."""


async def decode_token_ids(inputs: Sequence[Sequence[int]], load: LoadTokenBytes) -> list[str]:
    """Return the text of each input. Raises `InvalidRequest` for ids without one, or for more text than was reserved.

    It runs in a thread: the first call loads the encoding, which takes a second.
    """
    return await asyncio.to_thread(_decode, inputs, load)


def _decode(inputs: Sequence[Sequence[int]], load: LoadTokenBytes) -> list[str]:
    try:
        token_bytes = load(ENCODING)
    except (ImportError, OSError) as error:
        why = f"this worker cannot read token ids: it has no {ENCODING}"
        raise UpstreamFailed(why, blame=Blame.WORKER) from error
    texts: list[str] = []
    left = max_text_bytes(inputs)
    for position, ids in enumerate(inputs):
        try:
            # A client that cuts by tokens may cut a character in two.
            text = b"".join(map(token_bytes, ids)).decode(errors="replace")
        except KeyError as error:
            raise InvalidRequest(
                f"input[{position}] has a token id that {ENCODING} does not have. This model takes texts, or token ids "
                f"of {ENCODING}.",
                param="input",
            ) from error
        left -= len(text.encode())
        if left < 0:
            raise InvalidRequest(
                "The text of the token ids is longer than was reserved for their number. Send it as text.",
                param="input",
            )
        texts.append(text)
    return texts

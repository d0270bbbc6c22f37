"""Finds the context of a chat request."""

from chassis.errors import ArgosyError, InvalidRequest, Kind, Unavailable
from values.limits import MAX_QUERY_CHARACTERS

from orchestrator.context.model import Document, RetrievalOptions, Source
from orchestrator.context.ports import RetrievalClient
from orchestrator.context.render import last_user_text, select
from orchestrator.limits import Deadline, Limits

# Kinds that mean that retrieval is down. The others refuse this request: a wrong one, or an exhausted budget.
_DOWN = frozenset({Kind.UNAVAILABLE, Kind.TIMED_OUT, Kind.INTERNAL, Kind.UPSTREAM})


async def find_context(
    document: Document, options: RetrievalOptions, *, retrieval: RetrievalClient, deadline: Deadline, limits: Limits
) -> tuple[Source, ...]:
    """Return numbered passages that fit into the prompt; none when they are optional and retrieval is down.

    Raises `InvalidRequest` without a text to search with, `Unavailable`, and errors of retrieval.
    """
    query = options.query or _query(document)
    limit = options.limit or limits.default_passages
    timeout = deadline.remaining(limits.retrieval_timeout)
    try:
        passages = await retrieval.search(options.vector_store_ids, query, limit, timeout, options.filters)
    except ArgosyError as error:
        if error.kind not in _DOWN:
            raise
        if options.optional:
            return ()
        raise Unavailable(f"no context could be retrieved: {error.message}") from error
    return select(passages, limits.max_context_bytes)


def _query(document: Document) -> str:
    # A full-text index cannot search for NUL.
    text = last_user_text(document).replace("\0", " ").strip()
    if not text:
        raise InvalidRequest("no user message has text to search with; name a query", param="argosy.retrieval.query")
    # The question is usually at the end of a long message.
    return text[-MAX_QUERY_CHARACTERS:]

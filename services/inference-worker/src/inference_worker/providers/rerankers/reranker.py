"""Scores of a provider, over HTTP."""

from collections.abc import Sequence
from typing import Any

import orjson
from values.limits import MAX_RERANK_DOCUMENTS
from values.usage import TokenUsage, UsageSource, total_usage

from inference_worker.providers.credentials import Credential
from inference_worker.providers.inner_errors import find_error
from inference_worker.providers.model import Scores, UpstreamFailed
from inference_worker.providers.payloads import parse_document
from inference_worker.providers.rerankers.answers import Usage, read_numbers, read_usage
from inference_worker.providers.rerankers.requests import WriteRequest
from inference_worker.providers.scores import to_scores
from inference_worker.providers.token_details import is_token_count
from inference_worker.providers.transport.connection import Response
from inference_worker.providers.transport.http import HttpClient

PATH = "/rerank"


class HttpReranker:
    """A reranker. Documents that a server does not take at once are sent one after another, in one attempt."""

    def __init__(self, client: HttpClient, write: WriteRequest, *, max_documents: int = MAX_RERANK_DOCUMENTS) -> None:
        """`max_documents` is how many the server takes at once."""
        self._client = client
        self._write = write
        self._max_documents = max_documents

    async def rerank(
        self, model: str, query: str, documents: Sequence[str], *, credential: Credential | None = None
    ) -> Scores:
        numbers: list[float | None] = []
        usages: list[Usage] = []
        for start in range(0, len(documents), self._max_documents):
            group = documents[start : start + self._max_documents]
            try:
                read, usage = await self._call(self._write(model, query, group), len(group), credential)
            except UpstreamFailed as error:
                if usages:
                    # The calls before were made, and paid for.
                    last = [Usage(error.usage)] if error.maybe_billed else []
                    error.usage = _sum_tokens([*usages, *last])
                    error.maybe_billed, error.retry_same = True, False
                raise
            numbers += read
            usages.append(usage)
        units = [one.search_units for one in usages]
        return Scores(
            _with_unscored_last(numbers),
            _sum_tokens(usages),
            None if None in units else sum(unit or 0 for unit in units),
            unscored=numbers.count(None),
        )

    async def _call(
        self, body: dict[str, Any], expected: int, credential: Credential | None
    ) -> tuple[list[float | None], Usage]:
        response = await self._client.post(PATH, orjson.dumps(body), credential)
        document = parse_document(await self._client.read_all(response))
        usage = read_usage(document)
        if usage.tokens is None:
            usage = usage._replace(tokens=_header_tokens(response))
        try:
            self._raise_error_in(document, response)
            return read_numbers(document, expected), usage
        except UpstreamFailed as error:
            error.usage, error.search_units = usage
            error.maybe_billed = error.maybe_billed or usage != Usage()
            raise

    def _raise_error_in(self, document: Any, response: Response) -> None:
        error = find_error(document) if isinstance(document, dict) else None
        if error is not None:
            raise self._client.refused(error, response)


def _with_unscored_last(numbers: Sequence[float | None]) -> tuple[float, ...]:
    """Return scores from 0 to 1; a document without a number has 0."""
    scores = iter(to_scores([number for number in numbers if number is not None]))
    return tuple(0.0 if number is None else next(scores) for number in numbers)


def _sum_tokens(usages: Sequence[Usage]) -> TokenUsage | None:
    tokens = [usage.tokens for usage in usages]
    known = [one for one in tokens if one is not None]
    return total_usage(known) if len(known) == len(tokens) else None


def _header_tokens(response: Response) -> TokenUsage | None:
    """Return what TEI reports, in a header only."""
    text = response.compute_tokens
    tokens = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
    return TokenUsage(UsageSource.REPORTED, tokens, 0) if tokens and is_token_count(tokens) else None

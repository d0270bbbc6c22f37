"""What each reranker is asked, with as few fields as it needs: some servers refuse what they do not know.

All documents are asked for, and none of their texts. Where an API cuts long texts, it is told not to.
"""

from collections.abc import Callable, Sequence
from typing import Any

WriteRequest = Callable[[str, str, Sequence[str]], dict[str, Any]]
"""From model, query and documents to the body."""

COHERE_TOKENS_PER_DOCUMENT = 4096
"""After so many Cohere cuts a document unless more are asked for."""


def plain_request(model: str, query: str, documents: Sequence[str]) -> dict[str, Any]:
    """Jina's API as vLLM, LiteLLM, llama.cpp, Infinity, Xinference and others have it. All take `top_n`."""
    return {"model": model, "query": query, "documents": documents, "top_n": len(documents)}


def jina_request(model: str, query: str, documents: Sequence[str]) -> dict[str, Any]:
    return {**plain_request(model, query, documents), "return_documents": False}


def cohere_request(model: str, query: str, documents: Sequence[str]) -> dict[str, Any]:
    """Version 2 of the API. A text has at most one token per byte, so the limit is more than any document has."""
    longest = max(len(document.encode()) for document in documents)
    return {
        **plain_request(model, query, documents),
        "max_tokens_per_doc": max(COHERE_TOKENS_PER_DOCUMENT, longest),
    }


def voyage_request(model: str, query: str, documents: Sequence[str]) -> dict[str, Any]:
    return {
        "model": model,
        "query": query,
        "documents": documents,
        "top_k": len(documents),
        "return_documents": False,
        "truncation": False,
    }


def tei_request(_model: str, query: str, documents: Sequence[str]) -> dict[str, Any]:
    """A server has one model."""
    return {"query": query, "texts": documents, "raw_scores": False, "return_text": False, "truncate": False}

"""Doubles of rerankers: what each of them documents that it takes, answers and charges.

A score is the share of the query's words that a document has. TEI has a path of its own, and Cohere's version 2; the
others share one, where the model's name selects the double: `as-jina`, `as-voyage`, and `as-vllm` by default. Fields
that a provider does not know are refused as it refuses them. `status=429` is an error in its shape; `odd` spoils the
answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulators.dialects import Mode
from tests.simulators.providers import Charged

Document = dict[str, Any]

MAX_TEI_TEXTS = 32
WORDS_PER_PIECE = 500
"""Cohere charges a longer document, with the query, as several."""
PIECES_PER_UNIT = 100
NOTHING = Charged(0, 0)


@dataclass(frozen=True, slots=True)
class Reranked:
    """A response, and what it costs."""

    document: Any
    charged: Charged = NOTHING
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def share(query: str, document: str) -> float:
    words = set(query.split())
    return len(words & set(document.split())) / len(words)


def tokens(query: str, documents: Sequence[str]) -> int:
    """A word is a token, and the query is read with each document."""
    return len(query.split()) * len(documents) + sum(len(document.split()) for document in documents)


def search_units(query: str, documents: Sequence[str]) -> int:
    left = WORDS_PER_PIECE - len(query.split())
    pieces = sum(max(1, -(-len(document.split()) // left)) for document in documents)
    return -(-pieces // PIECES_PER_UNIT)


def _results(query: str, documents: Sequence[str], name: str = "relevance_score") -> list[Document]:
    scored = [{"index": index, name: share(query, text)} for index, text in enumerate(documents)]
    return sorted(scored, key=lambda one: -one[name])


def _cohere(body: Document) -> Reranked:
    unknown = body.keys() - {"model", "query", "documents", "top_n", "max_tokens_per_doc", "priority"}
    if unknown:
        return Reranked(_cohere_error(f"unknown field: parameter '{min(unknown)}' is not a valid field."), status=422)
    query, documents = body["query"], body["documents"]
    if any(len(one.split()) > body.get("max_tokens_per_doc", 4096) for one in documents):
        documents = [" ".join(one.split()[: body.get("max_tokens_per_doc", 4096)]) for one in documents]
    units = search_units(query, documents)
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": units}}
    document = {"id": "r-1", "results": _results(query, documents)[: body.get("top_n")], "meta": meta}
    return Reranked(document, Charged(0, 0, search_units=units))


def _jina(body: Document) -> Reranked:
    count = tokens(body["query"], body["documents"])
    results = _results(body["query"], body["documents"])[: body.get("top_n")]
    usage = {"total_tokens": count}
    return Reranked({"model": body["model"], "object": "list", "usage": usage, "results": results}, Charged(count, 0))


def _voyage(body: Document) -> Reranked:
    unknown = body.keys() - {"model", "query", "documents", "top_k", "return_documents", "truncation"}
    if unknown:
        return Reranked({"detail": f"Argument '{min(unknown)}' is not supported by our API"}, status=400)
    count = tokens(body["query"], body["documents"])
    data = _results(body["query"], body["documents"])[: body.get("top_k")]
    usage = {"total_tokens": count}
    return Reranked({"object": "list", "data": data, "model": body["model"], "usage": usage}, Charged(count, 0))


def _tei(body: Document) -> Reranked:
    if "texts" not in body:
        return Reranked({"error": "missing field `texts`", "error_type": "Validation"}, status=422)
    query, texts = body["query"], body["texts"]
    if len(texts) > MAX_TEI_TEXTS:
        words = f"batch size {len(texts)} > maximum allowed batch size {MAX_TEI_TEXTS}"
        return Reranked({"error": words, "error_type": "Validation"}, status=413)
    count = tokens(query, texts)
    headers = {"x-compute-type": "gpu+optimized", "x-compute-tokens": str(count)}
    return Reranked(_results(query, texts, "score"), Charged(count, 0), headers=headers)


def _vllm(body: Document) -> Reranked:
    count = tokens(body["query"], body["documents"])
    results = _results(body["query"], body["documents"])[: body.get("top_n") or None]
    for one in results:
        one["document"] = {"text": body["documents"][one["index"]], "multi_modal": None}
    usage = {"prompt_tokens": count, "total_tokens": count}
    return Reranked({"id": "rerank-1", "model": body["model"], "usage": usage, "results": results}, Charged(count, 0))


def _cohere_error(message: str) -> Document:
    return {"id": "r-1", "message": message}


DOUBLES: dict[str, Callable[[Document], Reranked]] = {
    "cohere": _cohere,
    "jina": _jina,
    "voyage": _voyage,
    "tei": _tei,
    "vllm": _vllm,
}
_ERRORS: dict[str, Callable[[int], Document]] = {
    "cohere": lambda status: _cohere_error(f"simulated {status}"),
    "jina": lambda status: {"detail": f"simulated {status}"},
    "voyage": lambda status: {"detail": f"simulated {status}"},
    "tei": lambda status: {
        "error": f"simulated {status}",
        "error_type": {429: "Overloaded", 424: "Backend", 503: "Unhealthy"}.get(status, "Validation"),
    },
    "vllm": lambda status: {
        "error": {"message": f"simulated {status}", "type": "Error", "param": None, "code": status}
    },
}


def rerank(path: str, mode: Mode, body: Document) -> Reranked:
    """Answer as the provider does whose path it is, or that the mode names."""
    named = mode.name.removeprefix("as-")
    provider = {"/rerank": "tei", "/v2/rerank": "cohere"}.get(path, named if named in DOUBLES else "vllm")
    status = int(mode.number("status", 200))
    if status != 200:
        return Reranked(_ERRORS[provider](status), status=status)
    answer = DOUBLES[provider](body)
    odd = mode.options.get("odd")
    if odd is not None and isinstance(answer.document, dict):
        name = "data" if "data" in answer.document else "results"
        _ODD[odd](answer.document, answer.document[name])
    return answer


def _drop_last(_: Document, results: list[Document]) -> None:
    del results[-1:]


def _repeat_first(_: Document, results: list[Document]) -> None:
    results.append({**results[0], "relevance_score": 0.0})


def _count_from_one(_: Document, results: list[Document]) -> None:
    for one in results:
        one["index"] += 1


def _drop_usage(document: Document, _: list[Document]) -> None:
    document["usage"] = document["meta"] = None


_ODD: dict[str, Callable[[Document, list[Document]], None]] = {
    "missing": _drop_last,
    "repeated": _repeat_first,
    "from-one": _count_from_one,
    "no-usage": _drop_usage,
}

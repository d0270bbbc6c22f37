"""`demo`: asks questions about a document through the unmodified OpenAI SDK, now and as jobs, and shows the cost.

It uses the public API and the keys of `.argosy/env` only, as a customer's program would.
"""

import hashlib
import time
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import httpx
import openai
from openai.types.chat import ChatCompletionChunk
from rich.console import Console
from rich.table import Table

from argosy_dev.commands import sample_document
from argosy_dev.commands.demo_jobs import run_jobs
from argosy_dev.errors import CliError

MODEL = "smollm2"
QUESTION = "What does the gateway check?"
ANSWER_TOKENS = 64
PASSAGES = 2  # more would confuse so small a model
_SETTLEMENT_TIMEOUT_SECONDS = 20.0


class DemoFailed(CliError):
    """The fleet runs, but a step of the demo failed."""


def demo(env: dict[str, str], question: str, console: Console) -> None:
    """Upload the guide (once), stream an answer, print sources, cost and ledger entries, then run jobs over it."""
    base_url, key = env["ARGOSY_BASE_URL"], env["ARGOSY_API_KEY"]
    started = time.monotonic()
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key=key, max_retries=2) as client:
        try:
            store = _index_document(client, sample_document.pdf(), console)
            request_id, sources, cost = _ask(client, store, question, console)
            _show_sources(sources, console)
            _show_cost(_statement(base_url, key, request_id), request_id, cost, console)
            run_jobs(client, MODEL, store, console)
        except openai.APIError as error:
            raise DemoFailed(f"The demo stopped: {error}") from error
    console.print(f"\nDone in {time.monotonic() - started:.1f} s.", style="dim")
    _show_next(base_url, request_id, console)


def _index_document(client: openai.OpenAI, document: bytes, console: Console) -> str:
    """Return the id of a vector store with the guide; a second demo uses the first one's."""
    name = f"argosy-guide-{hashlib.sha256(document).hexdigest()[:12]}"
    for store in client.vector_stores.list():
        if store.name == name and store.file_counts.completed == 1:
            console.print(f"[bold]Document[/]  {sample_document.FILENAME} is already indexed in {store.id}")
            return store.id
    started = time.monotonic()
    file = client.files.create(file=(sample_document.FILENAME, document), purpose="assistants")
    console.print(f"[bold]Document[/]  {sample_document.FILENAME}, {len(document):,} bytes, uploaded as {file.id}")
    created = client.vector_stores.create(name=name)
    attached = client.vector_stores.files.create_and_poll(file.id, vector_store_id=created.id, poll_interval_ms=200)
    if attached.status != "completed":
        reason = attached.last_error.message if attached.last_error else attached.status
        raise DemoFailed(f"The guide was not indexed: {reason}")
    console.print(f"          indexed in {created.id} within {time.monotonic() - started:.1f} s")
    return created.id


def _ask(client: openai.OpenAI, store: str, question: str, console: Console) -> tuple[str, list[dict[str, Any]], str]:
    """Stream the answer to the console; return the request's id, the sources and the cost in USD."""
    console.print(f"[bold]Question[/]  {question}\n[bold]Answer[/]    ", end="")
    started, first = time.monotonic(), 0.0
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        max_tokens=ANSWER_TOKENS,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"argosy": {"retrieval": {"vector_store_ids": [store], "limit": PASSAGES}}},
    )
    sources: list[dict[str, Any]] = []
    last: ChatCompletionChunk | None = None
    for chunk in stream:
        last = chunk
        sources = _argosy_field(chunk).get("sources", sources)
        text = chunk.choices[0].delta.content if chunk.choices else None
        if text:
            first = first or time.monotonic() - started
            console.print(text, end="", style="green", markup=False, highlight=False, soft_wrap=True)
    if last is None or last.usage is None:
        raise DemoFailed("The answer ended without its usage.")
    duration = time.monotonic() - started
    console.print(
        f"\n          first token after {first:.2f} s, {last.usage.completion_tokens} tokens in {duration:.1f} s",
        style="dim",
    )
    final = _argosy_field(last)
    return final["request_id"], sources, final["cost_usd"]


def _argosy_field(chunk: ChatCompletionChunk) -> dict[str, Any]:
    """Return the field that Argosy adds to a chunk; the SDK keeps unknown fields in `model_extra`."""
    return (chunk.model_extra or {}).get("argosy") or {}


def _show_sources(sources: Iterable[dict[str, Any]], console: Console) -> None:
    console.print("\n[bold]Sources[/]")
    for source in sources:
        text = " ".join(source["text"].split())
        where = f"{source['filename']}, page {source['page']}" if source["page"] else source["filename"]
        console.print(f"  [cyan]\\[{source['number']}][/] {where}: [dim]{text[:140].replace('[', chr(92) + '[')}…[/]")


def _statement(base_url: str, key: str, request_id: str) -> dict[str, Any]:
    """Return the statement of the request, once metering has consumed and settled its usage event."""
    deadline = time.monotonic() + _SETTLEMENT_TIMEOUT_SECONDS
    while True:
        response = httpx.get(
            f"{base_url}/v1/requests/{request_id}", headers={"authorization": f"Bearer {key}"}, timeout=10
        )
        statement: dict[str, Any] = response.json()
        if response.status_code == 200 and statement["settlements"]:
            return statement
        if time.monotonic() > deadline:
            raise DemoFailed(
                f"Request {request_id} was not settled within {_SETTLEMENT_TIMEOUT_SECONDS:.0f} s: "
                "see `make logs s=metering`."
            )
        time.sleep(0.1)


def _usd(nano_usd: int) -> str:
    return f"{Decimal(nano_usd) / 10**9:.9f}"


def _show_cost(statement: dict[str, Any], request_id: str, cost: str, console: Console) -> None:
    console.print(f"\n[bold]Cost[/]      ${cost} for {request_id}")
    for settlement in statement["settlements"]:
        usage = settlement["usage"]
        console.print(
            f"          attempt {settlement['attempt']} {settlement['outcome']}: {usage['input_tokens']} input tokens, "
            f"{usage['output_tokens']} output tokens of {settlement['price_key']} (usage {usage['source']})"
        )
    table = Table(box=None, pad_edge=False, padding=(0, 3))
    for column, justify in (("Ledger", "left"), ("Account", "left"), ("USD", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    entries = statement["ledger_entries"]
    for entry in entries:
        table.add_row(entry["transaction_id"], entry["account"], _usd(int(entry["amount_nano_usd"])))
    table.add_row("", "sum", _usd(sum(int(entry["amount_nano_usd"]) for entry in entries)), style="bold")
    console.print()
    console.print(table)


def _show_next(base_url: str, request_id: str, console: Console) -> None:
    console.print("\n[bold]Next[/]")
    for command, purpose in (
        (f"{base_url}/docs", "the API documentation, to try it in a browser"),
        ("make status", "the parts with their ports and memory"),
        ("make logs s=orchestrator", f"the log, with the lines of request {request_id}"),
        ("set -a; source .argosy/env", "addresses and keys for curl and your own program"),
        ("make down", "stop everything"),
    ):
        console.print(f"  {command:<34} [dim]{purpose}[/]", soft_wrap=True)

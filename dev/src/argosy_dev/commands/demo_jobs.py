"""The part of `demo` that submits jobs over the document, and shows how the queue drains."""

import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import openai
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from argosy_dev.errors import CliError

QUESTIONS = (
    "What is an argosy?",
    "What does the gateway check?",
    "What is reserved before a call?",
    "How is money kept?",
    "What does retrieval store?",
    "What happens when Kafka is down?",
)
ANSWER_TOKENS = 12
FINAL = frozenset({"succeeded", "failed", "cancelled"})
_POLL_SECONDS = 0.25
_DRAIN_TIMEOUT_SECONDS = 300.0


class JobsFailed(CliError):
    """The fleet runs, but the demo's jobs did not all succeed."""


def run_jobs(client: openai.OpenAI, model: str, store: str, console: Console) -> None:
    """Submit a job per question, wait until all are done, and print an answer and the cost of all."""
    started = time.monotonic()
    ids = [_submit(client, model, store, question) for question in QUESTIONS]
    submitted = time.monotonic() - started
    console.print(f"\n[bold]Jobs[/]      {len(ids)} questions accepted in {submitted:.2f} s, to be answered later")
    jobs = _wait(client, ids, console)
    failed = [job for job in jobs if job["state"] != "succeeded"]
    if failed:
        raise JobsFailed(f"Job {failed[0]['id']} has {failed[0]['state']}: {failed[0]['error']}")
    cost = sum((Decimal(job["cost_usd"]) for job in jobs), Decimal(0))
    first = client.get(f"/jobs/{ids[0]}", cast_to=dict[str, Any])
    answer = " ".join(first["result"]["choices"][0]["message"]["content"].split())
    console.print(f"          done in {time.monotonic() - started:.1f} s for ${cost}; the first: ", end="")
    console.print(f"“{answer}…”", style="green", markup=False)


def _submit(client: openai.OpenAI, model: str, store: str, question: str) -> str:
    """A chat completion with one more header; the answer is 202 and the job."""
    raw = client.chat.completions.with_raw_response.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=ANSWER_TOKENS,
        temperature=0,
        extra_headers={"Prefer": "respond-async"},
        extra_body={"argosy": {"retrieval": {"vector_store_ids": [store], "limit": 1}}},
    )
    return raw.headers["location"].rpartition("/")[2]


def _wait(client: openai.OpenAI, ids: Sequence[str], console: Console) -> list[dict[str, Any]]:
    """Show a bar until all jobs are final; return them in the order of their submission."""
    deadline = time.monotonic() + _DRAIN_TIMEOUT_SECONDS
    columns = (TextColumn("         "), BarColumn(40), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=len(ids))
        while True:
            listed = client.get("/jobs?limit=100", cast_to=dict[str, Any])["data"]
            jobs = {job["id"]: job for job in listed if job["id"] in ids}
            states = [job["state"] for job in jobs.values()]
            done = sum(state in FINAL for state in states)
            running = states.count("running")
            progress.update(bar, completed=done, description=f"{running} running, {len(ids) - done - running} waiting")
            if done == len(ids):
                progress.update(bar, description="all done")
                return [jobs[job_id] for job_id in ids]
            if time.monotonic() > deadline:
                raise JobsFailed(f"Of {len(ids)} jobs {done} are done after 5 minutes: see `make logs s=orchestrator`.")
            time.sleep(_POLL_SECONDS)

"""Duration and memory of ingestion: `make bench-ingest`, on the running fleet.

Makes a PDF of 300 pages of words and many files of one chunk each (different at each run, so that no embedding is
reused), uploads them through the public API, and watches the services while they are indexed. Prints files and chunks
per second, CPU by service, memory over time. Then the work tree's retrieval is measured alone, in turns with that of
the commit before (tests/load/ingest_turns.py).
"""

import argparse
import asyncio
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import openai
import psutil
from argosy_dev.commands import sample_document
from argosy_dev.fleet.paths import FleetPaths, read_pairs
from argosy_dev.fleet.state import read_state
from fpdf import FPDF

from tests.load.ingest_turns import compare

SERVICES = ("gateway", "orchestrator", "inference-worker", "metering", "retrieval")
FILES_OF_A_BATCH = 100
WORDS = sample_document.SOURCE  # the text of the demo's document


def document(pages: int, seed: int) -> bytes:
    """A PDF of `pages` pages with some 500 words each, in sentences."""
    choose = random.Random(seed)
    vocabulary = WORDS.read_text().split()
    pdf = FPDF()
    pdf.set_font("Times", size=11)
    for _ in range(pages):
        pdf.add_page()
        sentences = (
            " ".join(choose.choices(vocabulary, k=choose.randint(8, 24))).capitalize() + "." for _ in range(32)
        )
        pdf.multi_cell(0, 5, " ".join(sentences))
    return bytes(pdf.output())


@dataclass(slots=True)
class Watch:
    """Memory and CPU of the services, measured from outside."""

    processes: dict[str, list[psutil.Process]]
    memory: dict[str, list[int]] = field(default_factory=dict)
    cpu_before: dict[str, float] = field(default_factory=dict)

    @classmethod
    def over(cls, paths: FleetPaths) -> "Watch":
        entries = read_state(paths).parts
        found = {s: [psutil.Process(p.pid)] for s in SERVICES if s in entries and (p := entries[s].process)}
        if len(found) < len(SERVICES):
            raise SystemExit("ingest: the fleet does not run; `make up` starts it")
        watch = cls(found)
        watch.cpu_before = watch._cpu()
        return watch

    def sample(self) -> None:
        """Record the memory of each service, children included."""
        for service, (process, *_) in self.processes.items():
            family = [process, *process.children(recursive=True)]
            self.memory.setdefault(service, []).append(sum(_rss(member) for member in family))

    def _cpu(self) -> dict[str, float]:
        return {
            service: sum(sum(member.cpu_times()[:4]) for member in (process, *process.children(recursive=True)))
            for service, (process, *_) in self.processes.items()
        }  # including ended children

    def report(self, count: int, unit: str) -> None:
        """Print a row per service."""
        after = self._cpu()
        print(f"{'service':<18}{'CPU s':>8}{f'ms/{unit}':>10}{'MB before':>11}{'middle':>8}{'end':>6}{'most':>6}")
        for service, samples in self.memory.items():
            spent = after[service] - self.cpu_before[service]
            at = [samples[0], samples[len(samples) // 2], samples[-1], max(samples)]
            before, middle, end, most = (round(size / 1e6) for size in at)
            print(f"{service:<18}{spent:>8.1f}{spent / count * 1000:>10.1f}{before:>11}{middle:>8}{end:>6}{most:>6}")


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def note(choose: random.Random, vocabulary: list[str]) -> bytes:
    """A text of one chunk: some 60 words."""
    return (" ".join(choose.choices(vocabulary, k=60)).capitalize() + ".").encode()


def index_notes(client: openai.OpenAI, count: int, watch: Watch, seed: int) -> float:
    """Upload short files, attach all of them at once, and return the seconds until the last one is indexed."""
    choose, vocabulary = random.Random(seed), WORDS.read_text().split()
    store = client.vector_stores.create(name="bench")
    with ThreadPoolExecutor(4) as pool:
        contents = [note(choose, vocabulary) for _ in range(count)]
        made = pool.map(lambda text: client.files.create(file=("note.txt", text), purpose="assistants"), contents)
        files = [file.id for file in made]
    began = time.monotonic()
    batches = [
        client.vector_stores.file_batches.create(store.id, file_ids=files[start : start + FILES_OF_A_BATCH])
        for start in range(0, count, FILES_OF_A_BATCH)
    ]
    for batch in batches:
        counts = batch.file_counts
        while counts.in_progress:
            watch.sample()
            time.sleep(0.25)
            counts = client.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store.id).file_counts
        if counts.completed != counts.total:
            raise SystemExit(f"ingest: {counts.failed} of {counts.total} files failed")
    took = time.monotonic() - began
    client.vector_stores.delete(store.id)
    for file in files:
        client.files.delete(file)
    return took


def index(client: openai.OpenAI, content: bytes, watch: Watch, dsn: str) -> tuple[int, float, float]:
    """Upload and index a document; return the number of chunks and the seconds of upload and indexing."""
    began = time.monotonic()
    file = client.files.create(file=("long.pdf", content), purpose="assistants")
    uploaded = time.monotonic() - began
    store = client.vector_stores.create(name="bench")
    began = time.monotonic()
    attached: Any = client.vector_stores.files.create(store.id, file_id=file.id)
    while attached.status == "in_progress":
        watch.sample()
        time.sleep(0.25)
        attached = client.vector_stores.files.retrieve(file.id, vector_store_id=store.id)
    took = time.monotonic() - began
    if attached.status != "completed":
        raise SystemExit(f"ingest: indexing ended as {attached.status}: {attached.last_error}")
    chunks = asyncio.run(count_chunks(dsn, store.id))
    client.vector_stores.delete(store.id)
    client.files.delete(file.id)
    return chunks, uploaded, took


async def count_chunks(dsn: str, store_id: str) -> int:
    """The number of chunks of a vector store, which is not in the API."""
    connection = await asyncpg.connect(dsn)
    try:
        return int(
            await connection.fetchval("SELECT count(*) FROM retrieval.chunks WHERE vector_store_id = $1", store_id)
        )
    finally:
        await connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=300, help="pages of the document (300); 0 leaves it out")
    parser.add_argument("--files", type=int, default=400, help="files of one chunk (400); 0 leaves them out")
    parser.add_argument("--before", default="HEAD^", help="the commit to compare with (HEAD^); empty leaves it out")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each version (3)")
    options = parser.parse_args()
    paths = FleetPaths.from_environment()
    env = read_pairs(paths.env)
    with openai.OpenAI(base_url=f"{env['ARGOSY_BASE_URL']}/v1", api_key=env["ARGOSY_API_KEY"]) as client:
        if options.files:
            watch = Watch.over(paths)
            took = index_notes(client, options.files, watch, seed=time.time_ns())
            print(f"{options.files} files of one chunk indexed in {took:.1f} s: {options.files / took:.1f} files/s\n")
            watch.report(options.files, "file")
        if options.pages:
            watch, content = Watch.over(paths), document(options.pages, seed=time.time_ns())
            chunks, uploaded, took = index(client, content, watch, env["ARGOSY_POSTGRES_DSN"])
            print(f"\n{options.pages} pages, {len(content) / 1e6:.1f} MB, uploaded in {uploaded:.1f} s")
            print(f"{chunks} chunks indexed in {took:.1f} s: {chunks / took:.1f} chunks/s\n")
            watch.report(chunks, "chunk")
    if options.before:
        stores = {"dsn": env["ARGOSY_POSTGRES_DSN"], "kafka": env["ARGOSY_KAFKA_BOOTSTRAP"]}
        asyncio.run(compare(options.before, options.files or 400, options.rounds, **stores))


if __name__ == "__main__":
    main()

"""Duration and memory of ingestion: `make bench-ingest`, on the running fleet.

Makes a PDF of 300 pages of words and many files of one chunk each (different at each run, so that no embedding is
reused), uploads them through the public API, and watches the services while they are indexed. Prints files and chunks
per second, CPU by service, store and client, memory over time, and the speed of the embedding model alone, which is the
ceiling. Then the work tree's retrieval is measured alone, in turns with that of the commit before
(tests/load/ingest_turns.py).
"""

import argparse
import asyncio
import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import openai
from argosy_dev.commands import sample_document
from argosy_dev.fleet.paths import FleetPaths, read_pairs
from fpdf import FPDF
from inference_worker.providers.minilm import MinilmEmbedder

from tests.load.ingest_turns import compare
from tests.load.watch import Group, Reading, processes_of

FILES_OF_A_BATCH = 100
UPLOADS = 4
POLL_SECONDS = 0.25
SAMPLE_SECONDS = 2.0
CLIENT = "client (this)"
MODEL_TEXTS = 128
EMBED_CALL = 32  # the texts of one call, as retrieval makes them
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
    """Memory and CPU of the services and stores, measured from outside, and of this client."""

    groups: Sequence[Group]
    memory: dict[str, list[int]] = field(default_factory=dict)
    next_sample: float = 0.0

    @classmethod
    def over(cls, paths: FleetPaths) -> "Watch":
        groups = processes_of(paths)
        if not all(group.pids for group in groups):
            raise SystemExit("ingest: the fleet does not run; `make up` starts it")
        return cls(groups)

    def sample(self) -> None:
        """Record the memory of each part every two seconds: it takes as much CPU as a file."""
        if time.monotonic() < self.next_sample:
            return
        self.next_sample = time.monotonic() + SAMPLE_SECONDS
        for group in self.groups:
            self.memory.setdefault(group.name, []).append(group.memory_bytes())

    def read(self) -> Reading:
        return Reading.of((*self.groups, Group(CLIENT, (os.getpid(),))))

    def report(self, before: Reading, count: int, unit: str) -> None:
        """Print a row per part: its CPU since the reading, for each of `count` units, and its memory."""
        now = self.read()
        spent = now.cpu_since(before)
        print(f"cores busy: {' and '.join(f'{busy} %' for busy in now.busy_percent_since(before))}")
        print(f"{'part':<18}{'CPU s':>8}{f'ms/{unit}':>10}{'MB before':>11}{'middle':>8}{'end':>6}{'most':>6}")
        for name, seconds in spent.items():
            row = f"{name:<18}{seconds:>8.1f}{seconds / count * 1000:>10.1f}"
            if samples := self.memory.get(name):
                at = [samples[0], samples[len(samples) // 2], samples[-1], max(samples)]
                row += "".join(f"{round(size / 1e6):>{width}}" for size, width in zip(at, (11, 8, 6, 6), strict=True))
            print(row)
        total = sum(spent.values())
        print(f"{'all':<18}{total:>8.1f}{total / count * 1000:>10.1f}\n")


def note(choose: random.Random, vocabulary: list[str]) -> bytes:
    """A text of one chunk: some 60 words."""
    return (" ".join(choose.choices(vocabulary, k=60)).capitalize() + ".").encode()


def notes(count: int, seed: int) -> list[bytes]:
    choose, vocabulary = random.Random(seed), WORDS.read_text().split()
    return [note(choose, vocabulary) for _ in range(count)]


def upload(client: openai.OpenAI, contents: Sequence[bytes]) -> list[str]:
    with ThreadPoolExecutor(UPLOADS) as pool:
        made = pool.map(lambda text: client.files.create(file=("note.txt", text), purpose="assistants"), contents)
        return [file.id for file in made]


def index_notes(client: openai.OpenAI, count: int, watch: Watch, seed: int) -> None:
    """Upload short files, attach all of them at once, and print how fast that went until the last one is indexed."""
    contents, before, began = notes(count, seed), watch.read(), time.monotonic()
    files = upload(client, contents)
    took = time.monotonic() - began
    print(f"{count} files of one chunk uploaded in {took:.1f} s: {count / took:.1f} files/s")
    watch.report(before, count, "file")
    store = client.vector_stores.create(name="bench")
    before, began = watch.read(), time.monotonic()
    batches = [
        client.vector_stores.file_batches.create(store.id, file_ids=files[start : start + FILES_OF_A_BATCH])
        for start in range(0, count, FILES_OF_A_BATCH)
    ]
    for batch in batches:
        counts = batch.file_counts
        while counts.in_progress:
            watch.sample()
            time.sleep(POLL_SECONDS)
            counts = client.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store.id).file_counts
        if counts.completed != counts.total:
            raise SystemExit(f"ingest: {counts.failed} of {counts.total} files failed")
    took = time.monotonic() - began
    print(f"{count} files of one chunk indexed in {took:.1f} s: {count / took:.1f} files/s")
    watch.report(before, count, "file")
    client.vector_stores.delete(store.id)
    for file in files:
        client.files.delete(file)


def index_document(client: openai.OpenAI, pages: int, watch: Watch, dsn: str, model: Path) -> None:
    """Upload and index a document, and print how fast that went."""
    content = document(pages, seed=time.time_ns())
    began = time.monotonic()
    file = client.files.create(file=("long.pdf", content), purpose="assistants")
    print(f"{pages} pages, {len(content) / 1e6:.1f} MB, uploaded in {time.monotonic() - began:.1f} s")
    store = client.vector_stores.create(name="bench")
    before, began = watch.read(), time.monotonic()
    attached: Any = client.vector_stores.files.create(store.id, file_id=file.id)
    while attached.status == "in_progress":
        watch.sample()
        time.sleep(POLL_SECONDS)
        attached = client.vector_stores.files.retrieve(file.id, vector_store_id=store.id)
    took = time.monotonic() - began
    if attached.status != "completed":
        raise SystemExit(f"ingest: indexing ended as {attached.status}: {attached.last_error}")
    texts = asyncio.run(chunks_of(dsn, store.id))
    speed = len(texts) / took
    print(f"{len(texts)} chunks indexed in {took:.1f} s: {speed:.1f} chunks/s")
    watch.report(before, len(texts), "chunk")
    ceiling, described = asyncio.run(model_speed(model, texts[: 2 * MODEL_TEXTS]))
    print(f"the model alone, with texts of these: {described}; indexing reached {speed / ceiling:.2f} of it\n")
    client.vector_stores.delete(store.id)
    client.files.delete(file.id)


async def model_speed(folder: Path, texts: Sequence[str]) -> tuple[float, str]:
    """How many texts a second the embedding model makes in this process, alone and on all cores; also in words.

    The calls have as many texts as retrieval's, and there is always one that waits.
    """
    cores = os.cpu_count() or 1
    calls = [texts[start : start + EMBED_CALL] for start in range(0, len(texts), EMBED_CALL)]
    async with MinilmEmbedder(folder, threads=cores) as embedder:

        async def call_in_turns(first: int) -> int:
            found = [await embedder.embed("alone", call, dimensions=None) for call in calls[first :: cores + 1]]
            return sum((one.usage and one.usage.input_tokens) or 0 for one in found)

        await embedder.embed("warm-up", texts[:EMBED_CALL], dimensions=None)
        began, busy = time.monotonic(), time.process_time()
        tokens = sum(await asyncio.gather(*map(call_in_turns, range(cores + 1))))
        took, busy = time.monotonic() - began, time.process_time() - busy
    count = len(texts)
    speed = count / took
    words = f"{speed:.1f} texts/s on {cores} cores, {busy / count * 1000:.1f} ms and {tokens / count:.0f} tokens a text"
    return speed, words


async def chunks_of(dsn: str, store_id: str) -> list[str]:
    """The chunks of a vector store, which are not in the API."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT text FROM retrieval.chunks WHERE vector_store_id = $1", store_id)
        return [row["text"] for row in rows]
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
            texts = [text.decode() for text in notes(min(options.files, MODEL_TEXTS), seed=time.time_ns())]
            print(f"the model alone, with texts of the same kind: {asyncio.run(model_speed(paths.minilm, texts))[1]}\n")
            index_notes(client, options.files, Watch.over(paths), seed=time.time_ns())
        if options.pages:
            index_document(client, options.pages, Watch.over(paths), env["ARGOSY_POSTGRES_DSN"], paths.minilm)
    if options.before:
        stores = {"dsn": env["ARGOSY_POSTGRES_DSN"], "kafka": env["ARGOSY_KAFKA_BOOTSTRAP"]}
        asyncio.run(compare(options.before, options.files or 400, options.rounds, **stores))


if __name__ == "__main__":
    main()

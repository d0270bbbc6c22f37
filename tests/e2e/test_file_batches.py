"""The unmodified OpenAI SDK for Python puts batches of files into vector stores of the fleet."""

import io

import openai
import pytest

pytestmark = [pytest.mark.fleet, pytest.mark.xdist_group("public-api")]

HARBOURS = {"ragusa.md": "The harbour of Ragusa has 40 berths.", "split.md": "The harbour of Split has 90 berths."}


def streams() -> list[tuple[str, io.BytesIO]]:
    return [(name, io.BytesIO(text.encode())) for name, text in HARBOURS.items()]


def test_files_are_uploaded_indexed_together_and_found(client: openai.OpenAI) -> None:
    store = client.vector_stores.create(name="harbours")

    batch = client.vector_stores.file_batches.upload_and_poll(store.id, files=streams(), poll_interval_ms=200)

    assert batch.status == "completed"
    assert (batch.file_counts.completed, batch.file_counts.total) == (2, 2)
    assert client.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store.id) == batch
    listed = list(client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, limit=1))
    assert len({file.id for file in listed}) == 2
    best = next(iter(client.vector_stores.search(store.id, query="How many berths has Split?")))
    assert "90 berths" in best.content[0].text


def test_a_batch_with_a_file_that_cannot_be_read_completes_and_tells_which(client: openai.OpenAI) -> None:
    store = client.vector_stores.create(name="mixed")
    good, bad = (
        client.files.create(file=(name, io.BytesIO(data)), purpose="assistants").id
        for name, data in (("good.txt", b"Ragusa has a harbour."), ("bad.pdf", b"%PDF-1.7 torn"))
    )

    batch = client.vector_stores.file_batches.create_and_poll(store.id, file_ids=[good, bad], poll_interval_ms=200)

    assert batch.status == "completed"
    assert (batch.file_counts.completed, batch.file_counts.failed) == (1, 1)
    failed = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, filter="failed").data
    assert [file.id for file in failed] == [bad]
    assert failed[0].last_error is not None


def test_a_cancelled_batch_leaves_no_file_that_waits(client: openai.OpenAI) -> None:
    store = client.vector_stores.create(name="cancelled")
    ids = [client.files.create(file=stream, purpose="assistants").id for stream in streams() * 4]
    batch = client.vector_stores.file_batches.create(store.id, file_ids=ids)

    cancelled = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)

    # How many files were indexed before depends on the machine; none is waiting, and every file is counted.
    counts = cancelled.file_counts
    assert counts.in_progress == 0
    assert counts.completed + counts.cancelled == counts.total == len(ids)
    assert cancelled.status == ("cancelled" if counts.cancelled else "completed")
    assert client.vector_stores.retrieve(store.id).file_counts.total == counts.completed
    assert client.files.retrieve(ids[-1]).id == ids[-1]


def test_a_batch_with_an_unknown_file_attaches_none(client: openai.OpenAI) -> None:
    store = client.vector_stores.create(name="none")
    file = client.files.create(file=streams()[0], purpose="assistants")

    with pytest.raises(openai.NotFoundError) as refused:
        client.vector_stores.file_batches.create(store.id, file_ids=[file.id, "file-none"])

    assert refused.value.code == "file_not_found"
    assert client.vector_stores.retrieve(store.id).file_counts.total == 0

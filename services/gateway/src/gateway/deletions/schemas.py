"""Reports of deletions, in shapes of Argosy's own."""

from typing import Literal

from pydantic import BaseModel

from gateway.web.schemas import Resource


class Remaining(BaseModel):
    """What was found when the report was made; all zero when everything is gone.

    `records` are those of the file or the store itself, and of its attachments, batches and migrations. `chunks` are
    passages of text, `vectors` those of them by any model, `keywords` rows of the keyword index, `objects` the bytes in
    the object store.
    """

    records: int
    chunks: int
    vectors: int
    keywords: int
    objects: int


class DeletionReportRead(Resource):
    """What is left of a deleted file or vector store; its id is that of the file or the store.

    Searches do not find it from `deleted_at` on; its parts are removed within seconds. No cached answer that quotes it
    is given from then on, either: passages are a part of an answer's key. What such an answer takes in the cache is
    gone when the answer expires, or is purged.
    """

    object: Literal["deletion_report"] = "deletion_report"
    status: Literal["in_progress", "completed"]
    deleted_at: int
    checked_at: int
    remaining: Remaining

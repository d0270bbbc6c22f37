"""The languages of files and of stores in Postgres."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from retrieval.languages.detect import languages_of

# Of a file so many pieces are looked at, evenly spread over its chunks, and so many characters of each.
PIECES, PIECE_CHARACTERS = 16, 600
# A file keeps its languages from its first keyword to its last one.
BEFORE_KEYWORDS = "state = 'in_progress' AND indexed_chunks = 0"

_PIECES = f"""
SELECT file.attachment, a.languages, ARRAY(
    SELECT left(text, {PIECE_CHARACTERS}) FROM chunks
    WHERE tenant_id = (SELECT $1::text) AND vector_store_id = $2 AND attachment = file.attachment
      AND ordinal = ANY(ARRAY(
          SELECT n * coalesce(file.chunks, a.chunks) / {PIECES} FROM generate_series(0, {PIECES - 1}) AS n
      ))
) AS pieces
FROM unnest($3::bigint[], $4::integer[]) AS file (attachment, chunks)
CROSS JOIN LATERAL (
    SELECT languages, chunks FROM attachments
    WHERE tenant_id = $1 AND attachment = file.attachment AND {{condition}} OFFSET 0
) AS a
"""  # noqa: S608 - constants
# It only grows: a language of which no file is left costs a lookup for each word of a query.
_ADD_TO_STORE = """
UPDATE vector_stores SET languages = ARRAY(SELECT DISTINCT unnest(languages || $3::text[]) ORDER BY 1)
WHERE tenant_id = $1 AND vector_store_id = $2 AND NOT languages @> $3::text[]
"""
_SET = "UPDATE attachments SET languages = $3 WHERE tenant_id = $1 AND attachment = $2"


async def store_languages(
    connection: Any, tenant_id: str, vector_store_id: str, files: Mapping[int, int | None], condition: str
) -> None:
    """Find the languages of files from the text of their chunks, and write them to the files and to their store.

    `files` has attachments with how many chunks they have, or None where their row in `attachments` says that. Nothing
    is done for those whose row does not meet the condition. The caller holds no lock of an attachment, unless it holds
    one of the store from before: the store is locked first, as where it is deleted.
    """
    statement = _PIECES.format(condition=condition)
    rows = await connection.fetch(statement, tenant_id, vector_store_id, list(files), list(files.values()))
    if not rows:
        return
    found: Sequence[list[str]] = await asyncio.to_thread(_detect, [row["pieces"] for row in rows])
    if languages := sorted({language for of_file in found for language in of_file}):
        await connection.execute(_ADD_TO_STORE, tenant_id, vector_store_id, languages)
    changed = [
        (tenant_id, row["attachment"], of_file)
        for row, of_file in zip(rows, found, strict=True)
        if of_file != row["languages"]
    ]
    if changed:
        await connection.executemany(_SET, changed)


def _detect(files: Sequence[Sequence[str]]) -> list[list[str]]:
    return [languages_of(pieces) for pieces in files]

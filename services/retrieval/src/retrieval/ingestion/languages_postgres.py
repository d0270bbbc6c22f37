"""The languages of files and of stores in Postgres."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from retrieval.languages.detect import languages_of

# Of a file so many pieces are looked at, evenly spread over its chunks, and so many characters of each.
PIECES, PIECE_CHARACTERS = 16, 600

_PIECES = f"""
SELECT a.languages, ARRAY(
    SELECT left(text, {PIECE_CHARACTERS}) FROM chunks
    WHERE tenant_id = $1 AND vector_store_id = $2 AND attachment = $3
    AND ordinal = ANY(ARRAY(SELECT n * a.chunks / {PIECES} FROM generate_series(0, {PIECES - 1}) AS n))
) AS pieces
FROM attachments a WHERE tenant_id = $1 AND attachment = $3 AND {{condition}}
"""  # noqa: S608 - constants
# It only grows: a language of which no file is left costs a lookup for each word of a query.
_ADD_TO_STORE = """
UPDATE vector_stores SET languages = ARRAY(SELECT DISTINCT unnest(languages || $3::text[]) ORDER BY 1)
WHERE tenant_id = $1 AND vector_store_id = $2 AND NOT languages @> $3::text[]
"""
_SET = "UPDATE attachments SET languages = $3 WHERE tenant_id = $1 AND attachment = $2"


async def store_languages(
    connection: Any, tenant_id: str, vector_store_id: str, attachment: int, condition: str
) -> None:
    """Find the languages of a file from the text of its chunks, and write them to the file and to its store.

    Nothing is done for a file that does not meet the condition on its row in `attachments`. The store is locked before
    the attachment, as where a store is deleted.
    """
    row = await connection.fetchrow(_PIECES.format(condition=condition), tenant_id, vector_store_id, attachment)
    if row is None:
        return
    languages: Sequence[str] = await asyncio.to_thread(languages_of, row["pieces"])
    if languages:
        await connection.execute(_ADD_TO_STORE, tenant_id, vector_store_id, languages)
    if languages != row["languages"]:
        await connection.execute(_SET, tenant_id, attachment, languages)


async def languages_of_files(
    connection: Any, tenant_id: str, vector_store_id: str, texts: Mapping[int, tuple[int, Sequence[str]]]
) -> dict[int, Sequence[str]]:
    """Find the languages of files by attachment, and write them to their store.

    `texts` are the chunks that are not stored yet, each file's with the number of those that are. It comes before all
    locks of the transaction: the store has no language too few, and may have one too many.
    """
    pieces: dict[int, list[str]] = {}
    for attachment, (stored, new) in texts.items():
        pieces[attachment] = [new[n * len(new) // PIECES][:PIECE_CHARACTERS] for n in range(min(PIECES, len(new)))]
        if stored:
            row = await connection.fetchrow(_PIECES.format(condition="true"), tenant_id, vector_store_id, attachment)
            pieces[attachment] = row["pieces"] if row else []
    found: dict[int, Sequence[str]] = await asyncio.to_thread(
        lambda: {attachment: languages_of(some) for attachment, some in pieces.items()}
    )
    if languages := sorted({language for one in found.values() for language in one}):
        await connection.execute(_ADD_TO_STORE, tenant_id, vector_store_id, languages)
    return found


async def set_languages(connection: Any, tenant_id: str, languages: Mapping[int, Sequence[str]]) -> None:
    """Write the languages of files, by attachment, before their first keyword."""
    await connection.executemany(_SET, [(tenant_id, attachment, found) for attachment, found in languages.items()])

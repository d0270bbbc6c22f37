"""The languages of files and of stores in Postgres."""

import asyncio
from collections.abc import Sequence
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
ADD_TO_STORE = """
UPDATE vector_stores SET languages = ARRAY(SELECT DISTINCT unnest(languages || $3::text[]) ORDER BY 1)
WHERE tenant_id = $1 AND vector_store_id = $2 AND NOT languages @> $3::text[]
"""
_SET = "UPDATE attachments SET languages = $3 WHERE tenant_id = $1 AND attachment = $2"


async def languages_of_texts(texts: Sequence[str]) -> list[str]:
    """The languages of a file by the texts of all its chunks, as `store_languages` finds them."""
    places = sorted({n * len(texts) // PIECES for n in range(PIECES)})
    return await asyncio.to_thread(languages_of, [texts[place][:PIECE_CHARACTERS] for place in places])


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
        await connection.execute(ADD_TO_STORE, tenant_id, vector_store_id, languages)
    if languages != row["languages"]:
        await connection.execute(_SET, tenant_id, attachment, languages)

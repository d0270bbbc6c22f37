"""Keywords of older rules in Postgres: `attachments.lexeme_version`, and the rows of `postings`."""

from collections.abc import Sequence
from typing import Any

from chassis.postgres import Database

from retrieval.ingestion.languages_postgres import store_languages
from retrieval.ingestion.postgres import INDEX_KEYWORDS
from retrieval.reindexing.rebuild import OutdatedFile

# Files of different tenants take turns among those that are looked at: after an update, all files of a fleet wait. They
# come in random order, so that replicas that look at the same time do not all work on the same ones.
LOOKED_AT = 2_000
_OUTDATED = f"""
SELECT tenant_id, vector_store_id, attachment, chunks, keyword_rules() AS version FROM (
    SELECT *, row_number() OVER (PARTITION BY tenant_id ORDER BY random()) AS turn FROM (
        SELECT tenant_id, vector_store_id, attachment, chunks FROM attachments
        WHERE state = 'completed' AND lexeme_version < keyword_rules() AND ($2 = '' OR vector_store_id = $2)
        LIMIT {LOOKED_AT}
    ) AS found
) AS waiting ORDER BY turn, attachment LIMIT $1
"""  # noqa: S608 - constants
# The lock keeps the file from being taken out before the commit: its new keywords would stay for ever.
_LOCK = """
SELECT attachment FROM attachments WHERE tenant_id = $1 AND attachment = $2 AND state = 'completed'
FOR NO KEY UPDATE SKIP LOCKED
"""
_REMOVE = """
WITH removed AS (
    DELETE FROM postings WHERE tenant_id = $1 AND vector_store_id = $2 AND attachment = $3
    AND first_ordinal >= $4 AND first_ordinal < $5 RETURNING frequencies
)
SELECT coalesce(sum(frequency), 0)::bigint FROM removed CROSS JOIN unnest(frequencies) AS frequency
"""
_COUNT = "UPDATE attachments SET lexeme_count = lexeme_count + $3 WHERE tenant_id = $1 AND attachment = $2"
_FINISH = """
UPDATE attachments SET lexeme_version = $3 WHERE tenant_id = $1 AND attachment = $2
AND state = 'completed'
"""
# In the order of a key, because a file that was passed may be indexed anew meanwhile and is not to be found again.
_EXPIRE_PAGE = 5_000
_EXPIRE = """
WITH page AS MATERIALIZED (
    SELECT tenant_id, attachment FROM attachments
    WHERE (tenant_id, attachment) > ($2, $3) AND state = 'completed' AND ($1 = '' OR vector_store_id = $1)
    ORDER BY tenant_id, attachment LIMIT $4 FOR NO KEY UPDATE
), expired AS (
    UPDATE attachments AS a SET lexeme_version = 0 FROM page
    WHERE a.tenant_id = page.tenant_id AND a.attachment = page.attachment AND a.state = 'completed' RETURNING 1
)
SELECT tenant_id, attachment, (SELECT count(*) FROM expired) AS expired
FROM page ORDER BY tenant_id DESC, attachment DESC LIMIT 1
"""


class PostgresKeywordVersions:
    """Implements KeywordVersions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def outdated(self, limit: int, vector_store_id: str = "") -> Sequence[OutdatedFile]:
        async with self._database.system() as connection:
            rows = await connection.fetch(_OUTDATED, limit, vector_store_id)
        return [row_to_outdated_file(row) for row in rows]

    async def rebuild(self, file: OutdatedFile, first_ordinal: int, chunks: int) -> bool:
        key = (file.tenant_id, file.vector_store_id, file.attachment)
        end = min(first_ordinal + chunks, file.chunks)
        if first_ordinal == 0:
            # Before the keywords, so that no search misses those of a language that is new in the store.
            async with self._database.tenant(file.tenant_id) as connection:
                await store_languages(connection, *key, "state = 'completed'")
        async with self._database.tenant(file.tenant_id) as connection:
            if await connection.fetchval(_LOCK, file.tenant_id, file.attachment) is None:
                return False
            removed = await connection.fetchval(_REMOVE, *key, first_ordinal, end)
            added = await connection.fetchval(INDEX_KEYWORDS, *key, first_ordinal, end)
            await connection.execute(_COUNT, file.tenant_id, file.attachment, added - removed)
        return True

    async def finish(self, file: OutdatedFile) -> None:
        async with self._database.tenant(file.tenant_id) as connection:
            await connection.execute(_FINISH, file.tenant_id, file.attachment, file.version)

    async def expire(self, vector_store_id: str = "") -> int:
        expired, last = 0, ("", 0)
        while True:
            async with self._database.system() as connection:
                rows = await connection.fetch(_EXPIRE, vector_store_id, *last, _EXPIRE_PAGE)
            if not rows:
                return expired
            last = rows[0]["tenant_id"], rows[0]["attachment"]
            expired += rows[0]["expired"]


def row_to_outdated_file(row: Any) -> OutdatedFile:
    return OutdatedFile(row["tenant_id"], row["vector_store_id"], row["attachment"], row["chunks"], row["version"])

"""The command that indexes keywords anew at once, instead of in the background."""

import argparse
import sys

from retrieval.reindexing.rebuild import KeywordVersions, rebuild_outdated


def add_reindex_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="VS_ID", help="only this vector store; without it all stores of all tenants")
    parser.add_argument("--every", action="store_true", help="also files that the newest rules have indexed")


async def reindex(versions: KeywordVersions, vector_store_id: str = "", *, every: bool = False) -> int:
    """Index files anew until none is outdated, with a line for each batch; how many files."""
    if every:
        await versions.expire(vector_store_id)
    done = 0
    while batch := await rebuild_outdated(versions, vector_store_id):
        done += batch
        sys.stdout.write(f"{done} files\n")
    sys.stdout.write(f"done: {done} files\n")
    return done

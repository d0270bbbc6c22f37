"""Settings of the C library's allocator, so that memory goes back to the system after a burst of large requests."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

# glibc, malloc.h
M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
MMAP_BYTES: Final = 256 * 1024
TRIM_BYTES: Final = 8 * 1024 * 1024


def return_freed_memory() -> None:
    """Map large blocks by themselves, always; does nothing without glibc.

    glibc raises the size from which it maps blocks to that of the largest one freed so far, up to 32 MB. After the
    first large body all others would come from the heap, which shrinks only at its end: one small object keeps it all.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)
        mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)

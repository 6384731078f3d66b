"""Keep large blocks of memory between the layers of a network on the CPU."""

from __future__ import annotations

import ctypes
from functools import cache

__all__ = ["keep_large_blocks"]

#: glibc's mallopt parameters
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
#: blocks and free space up to this size stay with the process, bytes
KEPT = 1 << 30


@cache
def keep_large_blocks() -> bool:
    """Tell glibc not to hand large blocks back to the system as soon as they are free.

    By default every activation of some megabytes is mapped, faulted in page by page, and unmapped again: a third to a half
    of the time of inverting a batch on the CPU. The process keeps at most its peak for itself instead.

    Returns:
        Whether it took effect; False where the C library is another one.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all(mallopt(parameter, KEPT) == 1 for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))

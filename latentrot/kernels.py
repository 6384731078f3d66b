"""Compile numba kernels with a disk cache that tolerates failures, and run them on all cores with plain threads.

numba's own cache raises an error if no folder is writable, and never discards a damaged file; its parallel layers abort when
two threads call them, or hang after a fork. The cache here lies in the user's cache folder, verifies a digest, and is
disabled if it cannot be written. Kernels release the GIL and process a range of rows; after a fork the threads are restarted.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
import platformdirs
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, NullCache
from numba.core.caching import UserProvidedCacheLocator as _Locator

__all__ = ["in_bands", "kernel", "kernel_cache"]


def kernel_cache() -> Path:
    """Cache folder of compiled kernels: $NUMBA_CACHE_DIR, or latentrot/kernels in the user's cache folder."""
    given = numba.config.CACHE_DIR  # type: ignore[attr-defined]  defined at run time
    return Path(given) if given else platformdirs.user_cache_path("latentrot", appauthor=False) / "kernels"


# ---- the cache --------------------------------------------------------------------------------------------------


class _OwnPlace(_Locator):
    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        self._py_file, self._lineno = py_file, py_func.__code__.co_firstlineno
        self._cache_path = str(kernel_cache() / self.get_suitable_cache_subpath(py_file))

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _OwnPlace:
        place = cls(py_func, py_file)
        place.ensure_cache_path()
        return place


class _OwnCompiled(CompileResultCacheImpl):
    _locator_classes = [_OwnPlace]  # noqa: RUF012  as numba declares it


class _CheckedFiles(IndexDataCacheFile):
    """Cache files of numba with a digest, so that truncated machine code is never executed."""

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        digest, body = content[:32], content[32:]
        if hashlib.sha256(body).digest() != digest:
            raise ValueError(f"{name} is damaged")
        return pickle.loads(body)

    def _save_data(self, name: str, data: object) -> None:
        body = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(hashlib.sha256(body).digest() + body)


class _KernelCache(FunctionCache):
    """numba's cache of one function; after any failure the function is compiled again."""

    _impl_class = _OwnCompiled

    def __init__(self, py_func: Callable[..., Any]) -> None:
        super().__init__(py_func)
        files = self._cache_file
        self._cache_file = _CheckedFiles(self._cache_path, self._impl.filename_base, files._source_stamp)

    def load_overload(self, sig: object, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # pickle raises arbitrary exceptions for damaged files
            self.forget()
            return None

    def save_overload(self, sig: object, data: Any) -> None:
        with suppress(Exception):  # full disk or deleted folder: compile again in the next run
            super().save_overload(sig, data)

    def forget(self) -> None:
        """Delete a damaged cache."""
        with suppress(OSError):
            self.flush()


def _cache_of(function: Callable[..., Any]) -> FunctionCache | NullCache:
    """The cache of a function; a cache that stores nothing if no folder is writable."""
    try:
        return _KernelCache(function)
    except Exception:  # no home folder, a read-only disk, a file in place of the folder, or sources in an archive
        return NullCache()


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile a function with `numba.njit` and cache the machine code on disk; usable with or without arguments.

    Args:
        function: plain numeric code.
        options: options of `numba.njit` other than `cache` and `parallel`.
    """
    if function is None:
        return lambda f: kernel(f, **options)
    compiled = numba.njit(nogil=True, **options)(function)
    compiled._cache = _cache_of(function)  # type: ignore[attr-defined]  numba's dispatchers have it
    return compiled


# ---- threads ----------------------------------------------------------------------------------------------------

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    """Discard the pool in a forked child, which does not inherit the parent's threads."""
    global _pool  # noqa: PLW0603
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def in_bands(compiled: Callable[..., None], rows: int, *args: object) -> None:
    """Call `compiled(first, last, *args)` on bands of rows, in parallel on all cores.

    Safe to call from several threads and from forked processes.

    Args:
        compiled: a `kernel` that reads and writes only rows first to last - 1.
        rows: number of rows.
        args: further arguments of the kernel.
    """
    global _pool  # noqa: PLW0603
    count = max(1, min(int(numba.config.NUMBA_NUM_THREADS), rows))  # type: ignore[attr-defined]
    if count == 1:
        compiled(0, rows, *args)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(count, thread_name_prefix="latentrot-rows")
    edges = [
        rows * i // (4 * count) for i in range(4 * count + 1)
    ]  # several bands per core, because bands differ in cost
    list(_pool.map(lambda first, last: compiled(first, last, *args), edges[:-1], edges[1:]))

"""Compiled kernels: numba with a cache of the package's own, and rows on all cores by plain threads.

numba's own cache refuses a function where no folder can be written to, and reads a damaged file again and again; its parallel
layers abort when two threads call them, or hang after a fork. Here the cache lies in the user's cache folder, is checked, and
is done without where it cannot be kept; kernels release the GIL and take a range of rows, and threads that a fork leaves
behind are started anew.
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
    given = numba.config.CACHE_DIR  # type: ignore[attr-defined]  made of the environment
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
    """Cache files of numba with a digest, so that truncated machine code is never run."""

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
    """numba's cache of one function; any failure leads to compilation."""

    _impl_class = _OwnCompiled

    def __init__(self, py_func: Callable[..., Any]) -> None:
        super().__init__(py_func)
        files = self._cache_file
        self._cache_file = _CheckedFiles(self._cache_path, self._impl.filename_base, files._source_stamp)

    def load_overload(self, sig: object, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # damaged: pickle raises anything
            self.forget()
            return None

    def save_overload(self, sig: object, data: Any) -> None:
        with suppress(Exception):  # a full disk, or a folder that has gone: it is compiled again next time
            super().save_overload(sig, data)

    def forget(self) -> None:
        """Clear a damaged cache."""
        with suppress(OSError):
            self.flush()


def _cache_of(function: Callable[..., Any]) -> FunctionCache | NullCache:
    """The cache of a function; one that stores nothing without a writable folder."""
    try:
        return _KernelCache(function)
    except Exception:  # no home, a read-only disk, a file in place of the folder, or sources in an archive
        return NullCache()


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile a function (`numba.njit`), its machine code kept between runs; usable as a bare decorator.

    Args:
        function: plain numeric code.
        options: of `numba.njit`, but `cache` and `parallel`.
    """
    if function is None:
        return lambda f: kernel(f, **options)
    compiled = numba.njit(nogil=True, **options)(function)
    compiled._cache = _cache_of(function)  # type: ignore[attr-defined]  of numba's dispatchers
    return compiled


# ---- threads ----------------------------------------------------------------------------------------------------

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    """A child process has none of its parent's threads."""
    global _pool  # noqa: PLW0603
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def in_bands(compiled: Callable[..., None], rows: int, *args: object) -> None:
    """Call `compiled(first, last, *args)` for all rows, some on each core; any thread, or a forked process, may.

    Args:
        compiled: a `kernel` that works on rows first to last - 1 and touches no other.
        rows: how many there are.
        args: its other arguments.
    """
    global _pool  # noqa: PLW0603
    count = max(1, min(int(numba.config.NUMBA_NUM_THREADS), rows))  # type: ignore[attr-defined]
    if count == 1:
        compiled(0, rows, *args)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(count, thread_name_prefix="latentrot-rows")
    edges = [rows * i // (4 * count) for i in range(4 * count + 1)]  # bands cost unlike: several for each core
    list(_pool.map(lambda first, last: compiled(first, last, *args), edges[:-1], edges[1:]))

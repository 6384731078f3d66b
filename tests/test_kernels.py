"""Compiled kernels run without a place for their cache, with a damaged one, from many threads, and after a fork."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import latentrot

ROOT = Path(latentrot.__file__).parents[1]
DRAW = """
import numpy as np
from latentrot.geometry.draw import draw
def drawn(side=200):
    points = np.array([[0, 0, 0], [side, 0, 0], [0, side, 0]], np.float32)
    faces, kind = np.array([[0, 1, 2]]), np.array([1], np.uint8)
    values, shown, depth = draw(points, faces, np.ones((3, 1), np.float32), kind, (side, side))
    return int(shown.sum())
"""


def run(code: str, cache: Path, threads: int = 4) -> str:
    """What a process of its own prints; it may not hang."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "NUMBA_NUM_THREADS": str(threads),
                   "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", DRAW + textwrap.dedent(code)], env=environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache that is filled."""
    place = tmp_path_factory.mktemp("kernels")
    assert abs(int(run("print(drawn())", place)) - 20_000) < 300
    return place


def test_compiled_code_is_kept_and_found_again(cache):
    """The second process loads what the first has compiled."""
    out = run("drawn()\nfrom latentrot.geometry.draw import _draw\nprint(sum(_draw.stats.cache_hits.values()))", cache)
    assert out == "1"


def test_without_a_place_for_the_cache(tmp_path):
    """A file in place of the folder stands for every place that cannot be written to, whoever runs this."""
    (tmp_path / "file").write_text("")
    assert abs(int(run("print(drawn())", tmp_path / "file")) - 20_000) < 300


@pytest.mark.parametrize("damage", [b"", None, b"\0" * 5000], ids=["empty", "cut", "zeros"])
def test_a_damaged_cache_is_made_anew(cache, damage):
    """Whatever became of its files, the kernel is compiled again and kept again."""
    for file in cache.rglob("_draw*.nb*"):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] if damage is None else damage)
    assert abs(int(run("print(drawn())", cache)) - 20_000) < 300
    test_compiled_code_is_kept_and_found_again(cache)


def test_truncated_machine_code_is_not_run(cache):
    """A file of the right length whose middle never reached the disk still unpickles; it is told by its digest."""
    for file in cache.rglob("_draw*.nbc"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 4096] = bytes(4096)
        file.write_bytes(content)
    assert abs(int(run("print(drawn())", cache)) - 20_000) < 300


def test_from_many_threads_at_once(cache):
    """Eight callers, four threads of rows: all see the same triangle."""
    code = """
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(8) as pool:
        print(len(set(pool.map(lambda _: drawn(), range(64)))))
    """
    assert run(code, cache) == "1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_after_a_fork(cache):
    """A child that is forked after a drawing draws the same."""
    code = """
    import multiprocessing
    before = drawn()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(set(pool.map(drawn, [200] * 4)) == {before})
    """
    assert run(code, cache) == "True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(("threads", "word"), [(2, "spawn"), (1, "cpu")])
def test_networks_after_a_fork_are_refused(cache, threads, word):
    """OpenMP's threads do not survive a fork; where there was only one, none is missed."""
    code = f"""
    import multiprocessing, torch
    from latentrot.devices import resolve_device
    def ask(_):
        try:
            return str(resolve_device("cpu"))
        except ValueError as error:
            return str(error)
    torch.set_num_threads({threads})
    resolve_device("cpu")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.map(ask, [0])[0])
    """
    assert word in run(code, cache)


def test_bands_cover_every_row_once():
    """Whatever the number of rows, also fewer than there are cores."""
    from latentrot.kernels import in_bands  # noqa: PLC0415

    for rows in (1, 2, 7, 64, 1000):
        counts = np.zeros(rows, int)

        def count(first, last, counts=counts):
            counts[first:last] += 1

        in_bands(count, rows)
        assert (counts == 1).all()

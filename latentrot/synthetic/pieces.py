"""Files of what is cut out of ICT Face Model Light, in half precision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from latentrot.errors import LatentrotError, one_line
from latentrot.files import check_format, write_atomically

__all__ = ["read_piece", "write_piece"]

#: of the files, raised when an older version would misread one
FORMAT = 1
SOURCE = {
    "source": "ICT Face Model Light, MIT licence, (c) 2020 USC Institute for Creative Technologies",
    "unit": "width of the mean face",
}
#: numbers with a fraction, numbers of vertices, what is kept as it is
STORED = {"f": np.float16, "i": np.int16, "b": np.bool_}


def write_piece(path: Path, kind: str, arrays: Mapping[str, np.ndarray], **more: str) -> None:
    """Write arrays, whole or not at all.

    Args:
        path: the file.
        kind: what its header says it is, after "latentrot".
        arrays: by name.
        more: for the header.
    """
    tensors = {name: np.ascontiguousarray(a, STORED[a.dtype.kind]) for name, a in arrays.items()}
    header = {"kind": f"latentrot {kind}", "format": str(FORMAT), **SOURCE, **more}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, header))


def read_piece(path: Path | str, kind: str, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Read arrays that `write_piece` wrote.

    Raises:
        LatentrotError: no such file, another one, or of a later format.
    """
    try:
        with safe_open(str(path), "numpy") as file:
            check_format((file.metadata() or {}).get("format", 1), FORMAT, path)
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise LatentrotError(
            f"{path} is no {kind}: {one_line(error)}; make one by `latentrot heads surface`"
        ) from error

"""Files with parts of ICT Face Model Light, in half precision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from latentrot.errors import LatentrotError, one_line
from latentrot.files import check_format, write_atomically

__all__ = ["load_piece", "write_piece"]

Piece = TypeVar("Piece")

#: version of the file format, raised when an older version would misread it
FORMAT = 1
SOURCE = {
    "source": "ICT Face Model Light, MIT licence, (c) 2020 USC Institute for Creative Technologies",
    "unit": "width of the mean face",
}
#: stored types of floats, vertex indices, and masks
STORED = {"f": np.float16, "i": np.int16, "b": np.bool_}


def write_piece(path: Path, kind: str, arrays: Mapping[str, np.ndarray], **more: str) -> None:
    """Write arrays, atomically.

    Args:
        path: the file.
        kind: kind in its header, after "latentrot".
        arrays: name -> array.
        more: further header entries.
    """
    tensors = {name: np.ascontiguousarray(a, STORED[a.dtype.kind]) for name, a in arrays.items()}
    header = {"kind": f"latentrot {kind}", "format": str(FORMAT), **SOURCE, **more}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, header))


def load_piece(path: Path | str, kind: str, cls: type[Piece]) -> Piece:
    """Read a dataclass of arrays whose fields were written by `write_piece`.

    Floats become float32; indices int64, in triangles (fields named faces) int32.

    Raises:
        LatentrotError: the file is missing, of another kind, or of a newer format.
    """
    fields: Any = cls.__dict__["__dataclass_fields__"]
    try:
        with safe_open(str(path), "numpy") as file:
            check_format((file.metadata() or {}).get("format", 1), FORMAT, path)
            arrays = {name: file.get_tensor(name) for name in fields}
    except (OSError, SafetensorError) as error:
        raise LatentrotError(
            f"{path} is not a {kind} file: {one_line(error)}; create one with `latentrot heads surface`"
        ) from error
    loaded = {"f": np.float32, "i": np.int64, "b": np.bool_}
    return cls(**{n: a.astype(np.int32 if n.endswith("faces") else loaded[a.dtype.kind]) for n, a in arrays.items()})

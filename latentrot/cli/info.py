"""The command `info`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

__all__ = ["Info"]


@dataclass(frozen=True)
class Info:
    """Print the header of any file that latentrot wrote."""

    file: Annotated[Path, tyro.conf.Positional]
    """directions, latents, labels, label network, checkpoint, model folder, or an image written by latentrot"""

    def run(self) -> None:
        """Print one line per header entry: name and value."""
        from latentrot.info import describe_file  # noqa: PLC0415

        for name, value in describe_file(self.file).items():
            print(f"{name}: {value}")

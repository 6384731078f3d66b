"""Options of the rotator `mesh`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentrot.rotators.options import RotatorOptions

if TYPE_CHECKING:
    from latentrot.rotators.mesh.rotator import MeshRotator

__all__ = ["MeshOptions"]


@dataclass(frozen=True)
class MeshOptions(RotatorOptions):
    """No options."""

    def load(self, device: str | None = None, dtype: str | None = None) -> MeshRotator:
        """See `RotatorOptions.load`."""
        from latentrot.devices import resolve_device  # noqa: PLC0415
        from latentrot.rotators.mesh.rotator import MeshRotator  # noqa: PLC0415

        return MeshRotator(device=str(resolve_device(device)))

"""Where networks run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentrot.errors import LatentrotError

if TYPE_CHECKING:
    import torch

__all__ = ["resolve_device"]


def resolve_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or the best there is: cuda where there is one, else the CPU.

    Raises:
        LatentrotError: there is no such device.
    """
    import torch  # noqa: PLC0415  (slow to import, and every room may ask)

    try:
        target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=target)
    except (RuntimeError, AssertionError) as error:
        raise LatentrotError(f"device {str(device)!r} is not available here; expected cpu, cuda or cuda:N") from error
    return target

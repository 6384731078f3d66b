"""Devices of networks, and checks after a fork."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from latentrot.errors import LatentrotError

if TYPE_CHECKING:
    import torch

__all__ = ["resolve_device"]

#: ran: networks have run in this process on several threads; lost: it was forked from such a process, without its threads
_threads = {"ran": False, "lost": False}


def _after_fork() -> None:
    _threads["lost"] = _threads["ran"]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _check_threads() -> None:
    """Refuse a forked process whose parent ran networks: OpenMP would wait forever for the parent's threads.

    Raises:
        LatentrotError: the process was forked after networks had run; the message names two alternatives.
    """
    if _threads["lost"]:
        raise LatentrotError(
            "this process was forked from one in which networks had run, and cannot run any; start processes with "
            'multiprocessing.get_context("spawn"), or call torch.set_num_threads(1) before the first edit'
        )
    _threads["ran"] = sys.modules["torch"].get_num_threads() > 1


def resolve_device(device: str | torch.device | None) -> torch.device:
    """The given device, or the default: cuda if available, else the CPU.

    Raises:
        LatentrotError: the device does not exist, or the process was forked from one in which networks had run.
    """
    import torch  # noqa: PLC0415  (slow to import)

    _check_threads()
    try:
        target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=target)
    except (RuntimeError, AssertionError) as error:
        raise LatentrotError(f"device {str(device)!r} is not available here; expected cpu, cuda or cuda:N") from error
    return target

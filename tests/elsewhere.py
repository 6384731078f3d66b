"""A device that is not there: tensors that say they lie on a GPU, are computed by the CPU, and mix with no others.

A tensor left behind on the processor meets one on the GPU with the very error a GPU gives, and everything else comes out as
the CPU computes it, so that whole commands run and their results can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

aten = torch.ops.aten
#: what may be given tensors of two devices: copies between them, and indices, which a GPU fetches for itself
CROSSES = {
    aten._to_copy.default,
    aten.copy_.default,
    aten.index.Tensor,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}


class Elsewhere(torch.Tensor):
    """A tensor on a device that is not there; `held` is its content."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor, device: torch.device) -> Elsewhere:
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=device, requires_grad=held.requires_grad,
        )  # fmt: skip
        made.held = held
        return made

    def __repr__(self) -> str:
        return f"Elsewhere({tuple(self.shape)}, {self.dtype}, {self.device})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


def run(func, args, kwargs):
    """One operation: refuse a mixture, compute on the CPU, say where the result lies."""
    there = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    away = {t.device for t in there if isinstance(t, Elsewhere)}
    here = [t for t in there if not isinstance(t, Elsewhere) and t.ndim and t.device.type == "cpu"]
    if func not in CROSSES and (len(away) > 1 or (away and here)):
        devices = sorted({str(t.device) for t in there})
        raise RuntimeError(f"Expected all tensors to be on the same device, but found {', '.join(devices)}: {func}")
    if func is aten._fused_sdp_choice.default:
        return 0  # the plain attention: the fused ones are kernels of a device
    asked = kwargs.get("device")
    if func is aten.copy_.default or asked is None:
        where = args[0].device if func in CROSSES else next(iter(away), torch.device("cpu"))
    else:
        where = torch.device(asked)
    inside = {id(t.held): t for t in there if isinstance(t, Elsewhere)}
    plain = tree_map(lambda t: t.held if isinstance(t, Elsewhere) else t, (args, kwargs))
    if asked is not None and where.type == "gpu":
        plain[1]["device"] = torch.device("cpu")
    found = func(*plain[0], **plain[1])

    def placed(value):
        if not isinstance(value, torch.Tensor) or where.type != "gpu":
            return value
        return inside[id(value)] if id(value) in inside else Elsewhere(value, where)

    return tree_map(placed, found)


class Backend:
    """What PyTorch asks a backend's module; there are two devices while `gpus` pretends so."""

    there = False

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return self.there

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 2 if self.there else 0

    def manual_seed_all(self, seed: int) -> None: ...

    def _is_in_bad_fork(self) -> bool:
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class Hooks(torch._C._acc.PrivateUse1Hooks):
    """What PyTorch's C++ asks."""

    def is_available(self) -> bool:
        return BACKEND.there

    def has_primary_context(self, dev_id: int) -> bool:
        return BACKEND.there

    def is_built(self) -> bool:
        return True


BACKEND = Backend()


class Pretence(TorchDispatchMode):
    """Makes new tensors on a device that is not there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


@contextmanager
def gpus() -> Iterator[None]:
    """Pretend that this computer has the devices gpu:0 and gpu:1."""
    if torch._C._get_privateuse1_backend_name() != "gpu":
        _setup_privateuseone_for_python_backend("gpu", BACKEND, Hooks())
    BACKEND.there = True
    torch._C._set_only_lift_cpu_tensors(True)  # else torch.tensor(..., device=) goes past the mode
    try:
        with Pretence():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        BACKEND.there = False


@contextmanager
def networks_run_on() -> Iterator[set[str]]:
    """The devices of all networks' weights that are used meanwhile."""
    seen: set[str] = set()

    def note(module: torch.nn.Module, _: object) -> None:
        seen.update(str(p.device) for p in module.parameters(recurse=False))

    handle = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()

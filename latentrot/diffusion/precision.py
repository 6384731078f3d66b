"""Which precision is quick where."""

from __future__ import annotations

import torch

__all__ = ["computes_bfloat16"]


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has bfloat16 arithmetic of its own.

    A processor without it goes through float32 and back at every operation: measured on one with AVX2 alone, a convolution
    and its gradient took ten times as long as in float32.

    Args:
        device: any torch device.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # oneDNN's own answer, which is what decides how the convolutions run; torch names it nowhere else
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

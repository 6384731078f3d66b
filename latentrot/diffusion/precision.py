"""Precisions that devices support natively."""

from __future__ import annotations

import torch

__all__ = ["computes_bfloat16"]


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has native bfloat16 arithmetic.

    A processor without it converts to float32 and back at every operation: measured on one with AVX2 only, a convolution
    and its gradient took ten times as long as in float32.

    Args:
        device: any torch device.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # oneDNN decides how convolutions run; torch has no public function for this
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

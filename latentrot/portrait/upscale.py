"""Apply a user's super-resolution or face restoration network to rotated crops before they are composited.

spandrel recognises the architecture from the weights. Files are read as tensors only (safetensors, or PyTorch files without
code).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from latentrot.data.arrays import resize
from latentrot.data.weights import read_weights
from latentrot.devices import resolve_device
from latentrot.errors import LatentrotError, one_line
from latentrot.rotators.protocol import RotatedCrops

__all__ = ["Upscaler", "load_upscaler"]

#: position of the CelebA crop in the frame of face networks, relative to its side, from the eyes in FFHQ at
#: (192.98, 239.95) and (318.90, 240.19) of 512 and those in CelebA (`latentrot.faces.alignment.MEAN_LANDMARKS`)
FFHQ_LEFT, FFHQ_TOP, FFHQ_SIDE = 0.095, 0.122, 0.81
#: default side of the input of face networks, pixels
FACE_SIDE = 512
#: max side of a result, pixels
MAX_SIDE = 2048


@dataclass(frozen=True, eq=False)
class Upscaler:
    """A restoration network.

    Args:
        network: spandrel's descriptor of an image network, on its device, in evaluation mode.
        name: architecture and file, for reports.
    """

    network: Any
    name: str

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        """Restore one crop.

        Args:
            crop: (s, s, 3) uint8 RGB in the CelebA frame.

        Returns:
            (t, t, 3) uint8 with the same framing; t is s times the network's scale, or the output size of a face network.

        Raises:
            LatentrotError: the network fails, or its result would be larger than 2048 pixels.
        """
        if self.network.purpose == "FaceSR":
            return self._as_portrait(crop)
        if len(crop) * self.network.scale > MAX_SIDE:
            raise LatentrotError(
                f"{self.name} would enlarge a crop of {len(crop)} pixels {self.network.scale} times, over {MAX_SIDE} "
                "pixels a side; give a network with a smaller scale"
            )
        return self._run(crop)

    def _as_portrait(self, crop: np.ndarray) -> np.ndarray:
        """Run a face network on the crop, padded to the frame of the network."""
        side = max(FACE_SIDE, int(self.network.size_requirements.minimum))
        inner, left, top = round(side * FFHQ_SIDE), round(side * FFHQ_LEFT), round(side * FFHQ_TOP)
        rest = (top, side - inner - top), (left, side - inner - left), (0, 0)
        drawn = self._run(np.pad(resize(crop, inner), rest, mode="edge"))
        k = len(drawn) / side
        box = (left * k, top * k, (left + inner) * k, (top + inner) * k)
        size = min(MAX_SIDE, round(inner * k))
        return np.array(Image.fromarray(drawn).resize((size, size), Image.Resampling.LANCZOS, box=box))

    def _run(self, image: np.ndarray) -> np.ndarray:
        """(s, s, 3) uint8 -> (s * scale, s * scale, 3) uint8."""
        x = torch.from_numpy(image).permute(2, 0, 1)[None].to(self.network.device, torch.float32) / 255
        try:
            y = self.network(x)
        except Exception as error:  # architectures raise errors of many types
            raise LatentrotError(
                f"{self.name} failed on a crop of {len(image)} x {len(image)} pixels: {one_line(error, 200)}; "
                "try another network"
            ) from error
        if not bool(y.isfinite().all()):
            raise LatentrotError(f"{self.name} returned values that are not finite (nan or inf); try another network")
        return np.ascontiguousarray((y[0].float() * 255).round().byte().permute(1, 2, 0).cpu().numpy())

    def upscale_rotated(self, rotated: RotatedCrops) -> RotatedCrops:
        """Restore all crops of a rotation; the measurements remain those of the original crops."""
        frames = [replace(f, image=self(f.image)) for f in rotated.frames]
        size = len(frames[0].image) if frames else len(rotated.source)
        restored = self(rotated.reconstruction)
        return replace(rotated, source=resize(rotated.source, size), reconstruction=restored, frames=frames)


def load_upscaler(path: str | Path, device: str | None = None) -> Upscaler:
    """Load a restoration network.

    Args:
        path: .safetensors, .pth, .pt or .ckpt of an architecture that spandrel supports (ESRGAN, SwinIR, DAT, GFPGAN, ...).
        device: torch device; None: cuda if available, else the CPU.

    Raises:
        LatentrotError: spandrel is not installed; the file is missing, damaged or contains code; the architecture is
            unknown; or the network does not map RGB images to RGB images.
    """
    path = Path(path)
    name = one_line(path)
    try:
        import spandrel  # noqa: PLC0415  (optional, and slow to import)
    except ImportError as error:
        raise LatentrotError(
            "--upscale needs spandrel, which is not installed: pip install 'latentrot[upscale]'"
        ) from error
    state = spandrel.canonicalize_state_dict(read_weights(path))
    target = resolve_device(device)
    try:
        network = spandrel.ModelLoader(target).load_from_state_dict(state)
    except spandrel.UnsupportedModelError as error:
        raise LatentrotError(
            f"{name} holds weights of an architecture that spandrel does not know; give an ESRGAN, SwinIR or GFPGAN file"
        ) from error
    except Exception as error:  # mismatched shapes raise KeyError, RuntimeError and others
        raise LatentrotError(
            f"cannot build a network from {name}: {one_line(error, 200) or type(error).__name__}; it is damaged or "
            "truncated, download it again"
        ) from error
    if not isinstance(network, spandrel.ImageModelDescriptor):
        raise LatentrotError(f"{name} is an inpainting network; --upscale needs one that restores whole images")
    if (network.input_channels, network.output_channels) != (3, 3):
        raise LatentrotError(
            f"{name} takes {network.input_channels} channels and gives {network.output_channels}; expected 3 and 3 (RGB)"
        )
    return Upscaler(network.eval(), f"{network.architecture.name} ({one_line(path.name)})")

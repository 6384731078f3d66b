"""Mean colours of a face crop: of the face, of its surroundings, and the brightness of the eyes relative to the cheeks.

They are nuisance columns of the joint regression on properties. Without them the direction of a property that is on average
photographed in warmer or darker light, such as a smile on a stage, would include that light.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentrot.faces.estimate import resize_crops
from latentrot.faces.network import CROP_SIZE

__all__ = ["COLOUR_COLUMNS", "EYE_TO_CHEEK", "estimate_colours"]

#: columns of `estimate_colours`
EYE_TO_CHEEK = "eye_to_cheek"
COLOUR_COLUMNS = (*(f"{place}_{channel}" for place in ("face", "around") for channel in "rgb"), EYE_TO_CHEEK)
#: ellipse of the face in the 64x64 crop: centre (column, row) and half axes; outside `AROUND` times it are the surroundings
CENTRE, HALF_AXES, AROUND = (32.0, 38.0), (15.0, 20.0), 1.6
#: (rows, columns) of the left eye and the left cheek in the 64x64 crop; the right ones are their mirror images
EYE, CHEEK = (slice(24, 31), slice(17, 28)), (slice(36, 43), slice(17, 25))


def estimate_colours(x: Tensor) -> Tensor:
    """Estimate mean colours of face crops.

    Args:
        x: (n, 3, h, h) crops in the CelebA frame, float in [-1, 1], of any size.

    Returns:
        (n, 7) float32 in the order of COLOUR_COLUMNS: mean RGB of the face and of its surroundings, 0 to 1, and the
        brightness of the eye region relative to the cheeks. Invariant to mirroring.

    Raises:
        LatentrotError: `x` is not a batch of square RGB crops.
    """
    crops = (resize_crops(x).clamp(-1, 1) + 1) / 2
    distance = _ellipse(x.device)
    means = [_mean(crops, mask.float()) for mask in (distance < 1, distance > AROUND)]
    grey = crops.mean(1)
    both = grey + grey.flip(-1)
    eyes, cheeks = (both[:, rows, columns].mean((1, 2)) for rows, columns in (EYE, CHEEK))
    return torch.cat([*means, (eyes / cheeks.clamp(min=1e-3)).clamp(max=2.0)[:, None]], 1)


def _ellipse(device: torch.device) -> Tensor:
    """(64, 64) normalised distance from the face's centre; 1 on the ellipse."""
    ticks = torch.arange(CROP_SIZE, device=device) + 0.5
    across, down = ((ticks - centre) / half for centre, half in zip(CENTRE, HALF_AXES, strict=True))
    return (across[None, :] ** 2 + down[:, None] ** 2).sqrt()


def _mean(crops: Tensor, mask: Tensor) -> Tensor:
    """(n, 3, 64, 64), (64, 64) -> (n, 3) means under the mask."""
    return (crops * mask).sum((2, 3)) / mask.sum()

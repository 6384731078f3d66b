"""Training images of the label network: CelebA with its surroundings, and Yale B in linear light."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from latentrot.data.celeba import FaceFolder
from latentrot.data.frame import crop_box
from latentrot.data.tables import as_numbers, read_columns, to_files
from latentrot.errors import LatentrotError
from latentrot.faces.network import CROP_SIZE

__all__ = ["YaleFaces", "center_crop", "in_frame", "read_contexts", "read_pose", "read_yale", "yale_crops"]

#: side in pixels of the crops with surroundings, from which augmented crops are cut
CONTEXT_SIZE = 80
#: position of a Yale B face, resized to a square, in the 64x64 crop: first row, first column, side
YALE_BOX = (17, 12, 40)
#: absolute azimuth in degrees from which a light is left or right
CENTER_AZIMUTH = 20


def read_contexts(folder: FaceFolder) -> Tensor:
    """Crops with 8 pixels of surroundings on each side -> (n, 3, 80, 80) uint8."""

    def read(name: str) -> np.ndarray:
        image = folder.open_image(name)
        left, top, right, bottom = crop_box(*image.size)
        margin = (right - left) * (CONTEXT_SIZE - CROP_SIZE) / (2 * CROP_SIZE)
        box = (left - margin, top - margin, right + margin, bottom + margin)
        return np.asarray(image.resize((CONTEXT_SIZE, CONTEXT_SIZE), Image.Resampling.BICUBIC, box=box))

    return torch.from_numpy(np.stack([read(name) for name in folder.ids])).permute(0, 3, 1, 2).contiguous()


def center_crop(contexts: Tensor) -> Tensor:
    """(n, 3, 80, 80) uint8 -> the plain crops (n, 3, 64, 64) float in [-1, 1]."""
    margin = (CONTEXT_SIZE - CROP_SIZE) // 2
    return contexts[:, :, margin : margin + CROP_SIZE, margin : margin + CROP_SIZE].float() / 127.5 - 1


def read_pose(folder: FaceFolder) -> Tensor:
    """Read the reference poses of a folder: (n, 2) yaw and pitch in degrees, NaN for images that the table lacks.

    Raises:
        LatentrotError: `pose.csv` is missing.
    """
    path = folder.require_table("pose", "yaw_deg and pitch_deg")
    table = to_files(
        as_numbers(read_columns(path, ["yaw_deg", "pitch_deg"]), ["yaw_deg", "pitch_deg"], path), folder.ids
    )
    return torch.tensor(table[["yaw_deg", "pitch_deg"]].to_numpy(np.float32))


@dataclass(frozen=True)
class YaleFaces:
    """Yale B faces in linear light, scaled as in a 64x64 crop.

    Args:
        pixels: (n, 40, 40) float in [0, 1], linear light.
        azimuth: (n,) degrees; > 0: light from the left of the image.
        person: (n,) name of the person.
    """

    pixels: Tensor
    azimuth: np.ndarray
    person: np.ndarray

    @property
    def light(self) -> np.ndarray:
        """(n,) index into LIGHTS."""
        return np.where(self.azimuth > CENTER_AZIMUTH, 0, np.where(self.azimuth < -CENTER_AZIMUTH, 2, 1))

    def select(self, rows: np.ndarray) -> YaleFaces:
        """Select the faces for which `rows` is True."""
        return YaleFaces(self.pixels[torch.from_numpy(rows)], self.azimuth[rows], self.person[rows])


def read_yale(root: Path, darkest: float = 0.03) -> YaleFaces:
    """Read the Yale B faces except those with a mean brightness below `darkest`."""
    path = Path(root) / "light.csv"
    if not path.is_file():
        raise LatentrotError(f"no such table: {path}; expected the light of each image (image, azimuth_deg)")
    table = pd.read_csv(path)
    side = YALE_BOX[2]
    images = [
        np.asarray(Image.open(Path(root) / name).convert("L").resize((side, side), Image.Resampling.LANCZOS))
        for name in table["image"]
    ]
    pixels = torch.from_numpy(np.stack(images)).float() / 255
    faces = YaleFaces(pixels, table["azimuth_deg"].to_numpy(), table["image"].str.split("/").str[0].to_numpy())
    return faces.select((pixels.mean((1, 2)) >= darkest).numpy())


def in_frame(faces: Tensor, size: int) -> Tensor:
    """Insert (n, 40, 40) faces into crops of side `size` (64, or 80 with surroundings), padded by their edges."""
    top, left, side = YALE_BOX
    margin = (size - CROP_SIZE) // 2
    top, left = top + margin, left + margin
    return F.pad(faces[:, None], (left, size - left - side, top, size - top - side), mode="replicate")


def yale_crops(root: Path, people: slice | None = None) -> tuple[Tensor, np.ndarray]:
    """Yale B images as input of the label network, without too dark images.

    Args:
        root: the folder that holds `light.csv` and one folder per person.
        people: slice of the people in the order of their names; None: all.

    Returns:
        (n, 3, 64, 64) float in [-1, 1], and (n,) index into LIGHTS of the true light.

    Raises:
        LatentrotError: `root` contains no `light.csv`.
    """
    faces = read_yale(root)
    names = np.unique(faces.person)[people or slice(None)]
    faces = faces.select(np.isin(faces.person, names))
    shown = in_frame(faces.pixels.clamp(0, 1) ** (1 / 2.2), CROP_SIZE)
    return (shown * 2 - 1).expand(-1, 3, -1, -1).contiguous(), faces.light

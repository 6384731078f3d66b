"""The attributes network: age in years and CelebA's forty attributes from one small face crop.

Attributes are estimated from the whole crop, age from the face only (`FACE_WINDOW`): photographs with known ages show little
more than the face, so its surroundings must not affect the estimate.

Source of the attributes: Liu, Luo, Wang, Tang, "Deep Learning Face Attributes in the Wild", ICCV 2015.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from latentrot.bundles import ATTRIBUTES_FILE, DEFAULT_BUNDLE, bundled_folder, part_in
from latentrot.errors import LatentrotError
from latentrot.faces.estimate import resize_crops
from latentrot.faces.layers import Residual, conv, digest_of, load_weights

__all__ = [
    "AGE", "ATTRIBUTES", "ATTRIBUTE_COLUMNS", "AttributeNetwork", "attribute_table", "attributes_beside",
    "estimate_attributes", "find_attributes", "load_attributes",
]  # fmt: skip

#: CelebA's attributes, in the order of its table
ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses", "Goatee",
    "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "No_Beard",
    "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair",
    "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young",
)  # fmt: skip
#: the column of the age in years
AGE = "age_years"
#: columns of `estimate_attributes`: age in years, and the probability of each attribute (prefix p_, as for the light:
#: CelebA's plain names hold +1 and -1)
ATTRIBUTE_COLUMNS = (AGE, *(f"p_{name}" for name in ATTRIBUTES))
#: rows and columns of the 64x64 crop used for the age
FACE_WINDOW = (slice(14, 62), slice(10, 54))
#: age in years at network output 0, and years per unit of output
AGE_CENTER, AGE_SCALE = 45.0, 20.0
#: min and max age, as in the training set, which contains adults only
AGES = (18.0, 90.0)
KIND = "latentrot attributes"
#: number of crops per forward pass
CHUNK = 256


class AttributeNetwork(nn.Module):
    """Age and attributes of 64x64 crops in the CelebA frame.

    Attributes:
        title: name for records of its results: the requested name and a digest of the file.
    """

    def __init__(self) -> None:
        super().__init__()
        self.title = "untrained"
        self.trunk = nn.Sequential(
            conv(3, 32, 5, 2),
            conv(32, 64, 3, 2),
            Residual(64),
            conv(64, 128, 3, 2),
            Residual(128),
            conv(128, 192, 3, 2),
        )  # 64 -> 32 -> 16 -> 8 -> 4
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(192 * 16, 192), nn.SiLU(inplace=True), nn.Dropout(0.2)
        )
        self.attributes = nn.Linear(192, len(ATTRIBUTES))
        self.age = nn.Linear(192, 1)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def logits(self, x: Tensor) -> Tensor:
        """(n, 3, 64, 64) in [-1, 1] -> (n, 40) logits in the order of ATTRIBUTES."""
        return self.attributes(self.head(self.trunk(x)))

    def years(self, x: Tensor) -> Tensor:
        """(n, 3, 64, 64) in [-1, 1] -> (n,) age in years, from the face only."""
        return self.age(self.head(self.trunk(face_alone(x))))[:, 0] * AGE_SCALE + AGE_CENTER

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, 64, 64) in [-1, 1] -> (n, 41) age in years and probabilities of the attributes (ATTRIBUTE_COLUMNS)."""
        return torch.cat([self.years(x)[:, None], self.logits(x).sigmoid()], 1)


def face_alone(x: Tensor) -> Tensor:
    """(n, 3, 64, 64) crops in which everything except the face is grey."""
    alone = torch.zeros_like(x)
    rows, columns = FACE_WINDOW
    alone[:, :, rows, columns] = x[:, :, rows, columns]
    return alone


@torch.no_grad()
def estimate_attributes(x: Tensor, *, network: AttributeNetwork | None = None, mirror: bool = True) -> Tensor:
    """Estimate age and attributes of faces.

    Args:
        x: (n, 3, h, h) crops in the CelebA frame, float in [-1, 1], of any size.
        network: the attributes network, on any device; None: the bundled one.
        mirror: average with the mirrored image, so that the result is invariant to mirroring.

    Returns:
        (n, 41) float32 on x's device in the order of ATTRIBUTE_COLUMNS: age in years (18 to 90), then the probability, 0 to
        1, of each of CelebA's attributes.

    Raises:
        LatentrotError: `x` is not a batch of square RGB crops, or the attributes network is missing.
    """
    net = network or load_attributes(device=x.device)
    crops = x.to(net.device)
    sides = [resize_crops(crops), resize_crops(crops.flip(-1))] if mirror else [resize_crops(crops)]
    found = torch.stack([torch.cat([net(part) for part in side.split(CHUNK)]) for side in sides]).mean(0)
    return torch.cat([found[:, :1].clamp(*AGES), found[:, 1:]], 1).to(x.device)


def attribute_table(values: Tensor) -> pd.DataFrame:
    """Convert (n, 41) values of `estimate_attributes` to a table with ATTRIBUTE_COLUMNS."""
    return pd.DataFrame(values.cpu().numpy().astype(np.float32), columns=pd.Index(ATTRIBUTE_COLUMNS))


def load_attributes(path: Path | str | None = None, device: torch.device | str | None = None) -> AttributeNetwork:
    """Load an attributes network for inference.

    Args:
        path: name of a bundled model, a model's folder with attributes.safetensors, or a file written by
            `train_attributes`; None: the bundled one. Bundled networks are cached per device.
        device: target device; None: the CPU.

    Raises:
        LatentrotError: the file is missing, unreadable, or of another kind.
    """
    name = DEFAULT_BUNDLE if path is None else str(path)
    if (found := find_attributes(name)) is None:
        raise LatentrotError(
            f"no attributes network at {name}; give a file written by `latentrot train attributes` or a model folder that "
            f"contains attributes.safetensors; without one, the network of {DEFAULT_BUNDLE} is used"
        )
    return _read(found, Path(name).name, str(torch.device(device or "cpu")))


def attributes_beside(labeler: str | Path, device: torch.device | str | None = None) -> AttributeNetwork | None:
    """Load the attributes network from the bundled model or folder of a label network; None if it has none.

    Args:
        labeler: as for `load_labeler`, but not None.
        device: target device; None: the CPU.
    """
    folder = bundled_folder(str(labeler)) or Path(labeler)
    found = part_in(folder if folder.is_dir() else folder.parent, ATTRIBUTES_FILE)
    return None if found is None else _read(found, Path(labeler).name, str(torch.device(device or "cpu")))


def find_attributes(name: str | Path) -> Path | None:
    """Path of an attributes network, given a bundled model, a model's folder, or a file; None if missing."""
    folder = bundled_folder(str(name)) or Path(name)
    path = part_in(folder, ATTRIBUTES_FILE) if folder.is_dir() else folder
    return path if path is not None and path.is_file() else None


@cache
def _read(path: Path, name: str, device: str) -> AttributeNetwork:
    network = load_weights(AttributeNetwork(), path, KIND, "train attributes")
    network.title = f"{name} {digest_of(path)}"
    return network.to(device)

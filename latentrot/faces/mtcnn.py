"""MTCNN: a cascade of three small convolutional networks that detects faces and five landmarks.

The first network evaluates every position of an image pyramid and proposes boxes; the second rejects most; the third selects
the faces and places their landmarks. After every stage boxes that overlap a better one are dropped.

Source: Zhang, Zhang, Li, Qiao, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks",
IEEE Signal Processing Letters 23(10), 2016 (arXiv 1604.02878). Weights: facenet-pytorch 2.6.0 (MIT licence, beside them in
`bundled/mtcnn`); the results equal those of its own detector.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from latentrot.bundles import DETECTOR

__all__ = ["MTCNN", "load_mtcnn"]

#: receptive field and stride of the first network, pixels
CELL, STRIDE = 12, 2
#: scale between levels of the image pyramid
PYRAMID_FACTOR = 0.709
#: min confidence to pass each stage
PASS = (0.6, 0.7, 0.7)
#: number of boxes per forward pass, to bound memory
BATCH = 512


class Columns(nn.Module):
    """Flattens (n, c, h, w) to (n, w h c), the order of the published dense layers."""

    def forward(self, x: Tensor) -> Tensor:
        """Flatten, columns first."""
        return x.transpose(1, 3).flatten(1)


def convolution(channels: int, out: int, side: int) -> list[nn.Module]:
    """A convolution with its activation."""
    return [nn.Conv2d(channels, out, side), nn.PReLU(out)]


class Stage(nn.Module):
    """One of the three networks: shared layers, then heads for confidence, box and, in the last stage, landmarks."""

    def __init__(self, trunk: list[nn.Module], **heads: nn.Module) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*trunk)
        self.heads = nn.ModuleDict(heads)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """RGB images (n, 3, h, w), 0 to 255 -> `face`: confidence 0 to 1; `box`, `landmarks`: shares of the box's side."""
        x = self.trunk((x - 127.5) / 128)
        found = {name: head(x) for name, head in self.heads.items()}
        return found | {"face": found["face"].softmax(1)[:, 1]}


def proposal_network() -> Stage:
    """The first stage, fully convolutional."""
    trunk = [
        *convolution(3, 10, 3),
        nn.MaxPool2d(2, 2, ceil_mode=True),
        *convolution(10, 16, 3),
        *convolution(16, 32, 3),
    ]
    return Stage(trunk, face=nn.Conv2d(32, 2, 1), box=nn.Conv2d(32, 4, 1))


def refinement_network() -> Stage:
    """The second stage, for inputs of 24x24 pixels."""
    trunk = [
        *convolution(3, 28, 3),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        *convolution(28, 48, 3),
        nn.MaxPool2d(3, 2, ceil_mode=True),
    ]
    trunk += [*convolution(48, 64, 2), Columns(), nn.Linear(576, 128), nn.PReLU(128)]
    return Stage(trunk, face=nn.Linear(128, 2), box=nn.Linear(128, 4))


def output_network() -> Stage:
    """The third stage, for inputs of 48x48 pixels."""
    trunk = [
        *convolution(3, 32, 3),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        *convolution(32, 64, 3),
        nn.MaxPool2d(3, 2, ceil_mode=True),
    ]
    trunk += [*convolution(64, 64, 3), nn.MaxPool2d(2, 2, ceil_mode=True), *convolution(64, 128, 2)]
    trunk += [Columns(), nn.Linear(1152, 256), nn.PReLU(256)]
    return Stage(trunk, face=nn.Linear(256, 2), box=nn.Linear(256, 4), landmarks=nn.Linear(256, 10))


class MTCNN(nn.Module):
    """The three stages.

    Args:
        smallest: size of the smallest face to detect, pixels.
    """

    def __init__(self, smallest: int) -> None:
        super().__init__()
        self.smallest = smallest
        self.propose, self.refine, self.output = proposal_network(), refinement_network(), output_network()

    @torch.inference_mode()
    def detect(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Detect every face in a (h, w, 3) uint8 RGB image.

        Returns:
            (n, 4) boxes: left, top, right, bottom, counted from 1, both ends inclusive; (n,) confidence, 0 to 1; and
            (n, 5, 2) landmarks (column, row) in pixels from the image's corner: eyes, nose tip, mouth corners.
        """
        device = next(self.parameters()).device
        image = torch.from_numpy(pixels.copy()).to(device).permute(2, 0, 1)[None].float()
        # propose
        boxes, scores = self.proposals(image)
        # refine
        boxes, found = self.run_stage(self.refine, image, square(boxes), 24)
        boxes, scores, found = passing(boxes, found, PASS[1])
        kept = suppress(boxes, scores, 0.7)
        boxes = square(corrected(boxes[kept], found["box"][kept]))
        # place the landmarks
        boxes, found = self.run_stage(self.output, image, boxes, 48)
        boxes, scores, found = passing(boxes, found, PASS[2])
        sides = boxes[:, 2:] - boxes[:, :2] + 1
        landmarks = found["landmarks"].reshape(-1, 2, 5).transpose(1, 2) * sides[:, None] + boxes[:, None, :2] - 1
        boxes = corrected(boxes, found["box"])
        kept = suppress(boxes, scores, 0.7, of_the_smaller=True)
        return boxes[kept].cpu().numpy(), scores[kept].cpu().numpy(), landmarks[kept].cpu().numpy()

    def proposals(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (n, 4) and confidences (n,) of the first stage, over an image pyramid of a (1, 3, h, w) image."""
        height, width = image.shape[2:]
        scale = CELL / self.smallest
        boxes, scores, shifts = [], [], []
        while min(height, width) * scale >= CELL:
            small = F.interpolate(image, size=(int(height * scale + 1), int(width * scale + 1)), mode="area")
            found = self.propose(small)
            inside = found["face"][0] >= PASS[0]
            at = STRIDE * inside.nonzero().flip(1) + 1
            here = torch.cat([(at / scale).floor(), ((at + CELL - 1) / scale).floor()], 1)
            kept = suppress(here, found["face"][0][inside], 0.5)
            boxes.append(here[kept])
            scores.append(found["face"][0][inside][kept])
            shifts.append(found["box"][0][:, inside].T[kept])
            scale *= PYRAMID_FACTOR
        if not boxes:
            return image.new_zeros(0, 4), image.new_zeros(0)
        box, score, shift = torch.cat(boxes), torch.cat(scores), torch.cat(shifts)
        kept = suppress(box, score, 0.7)
        box, score, shift = box[kept], score[kept], shift[kept]
        return box + shift * (box[:, 2:] - box[:, :2]).repeat(1, 2), score

    @staticmethod
    def run_stage(stage: Stage, image: Tensor, boxes: Tensor, side: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Apply a stage to the image inside (n, 4) boxes; boxes completely outside the image are dropped."""
        height, width = image.shape[2:]
        low = boxes[:, :2].trunc().int().clamp(min=1) - 1
        high = torch.minimum(boxes[:, 2:].trunc().int(), torch.tensor([width, height], device=boxes.device))
        shown = (high > low).all(1)
        corners = torch.cat([low, high], 1)[shown].cpu().tolist()
        cuts = [
            F.interpolate(image[:, :, top:bottom, left:right], size=side, mode="area")
            for left, top, right, bottom in corners
        ]
        cuts = torch.cat(cuts) if cuts else image.new_zeros(0, 3, side, side)
        parts = [stage(part) for part in cuts.split(BATCH)]
        return boxes[shown], {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def passing(boxes: Tensor, found: dict[str, Tensor], min_score: float) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Select boxes, confidences and other outputs with a confidence above `min_score`."""
    sure = found["face"] > min_score
    return boxes[sure], found["face"][sure], {name: values[sure] for name, values in found.items()}


def corrected(boxes: Tensor, shift: Tensor) -> Tensor:
    """Shift boxes (n, 4) by shares of their sides (n, 4)."""
    return boxes + shift * (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2)


def square(boxes: Tensor) -> Tensor:
    """Expand boxes (n, 4) to squares with the same centres."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.amax(1, keepdim=True)
    corner = boxes[:, :2] + sides * 0.5 - longer * 0.5
    return torch.cat([corner, corner + longer], 1)


def suppress(boxes: Tensor, scores: Tensor, max_overlap: float, *, of_the_smaller: bool = False) -> Tensor:
    """Non-maximum suppression: drop boxes that overlap a box of higher confidence.

    Args:
        boxes: (n, 4).
        scores: (n,) confidence.
        max_overlap: max overlap as a share of the union.
        of_the_smaller: measure the overlap as a share of the smaller box instead, with both ends of a box inclusive.

    Returns:
        (k,) indices of the kept boxes, in order of falling confidence.
    """
    box, extra = boxes.cpu().numpy(), float(of_the_smaller)
    area = (box[:, 2:] - box[:, :2] + np.float32(extra)).prod(1)
    order, kept = np.argsort(-scores.cpu().numpy(), kind="stable"), []
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(int(first))
        low, high = np.maximum(box[first, :2], box[rest, :2]), np.minimum(box[first, 2:], box[rest, 2:])
        shared = np.maximum(high - low + np.float32(extra), 0).prod(1)
        whole = np.minimum(area[first], area[rest]) if of_the_smaller else area[first] + area[rest] - shared
        order = rest[shared <= max_overlap * whole]
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)


@lru_cache(maxsize=4)
def load_mtcnn(device: str, smallest: int) -> MTCNN:
    """Load the detector with its bundled weights; cached per device.

    Args:
        device: torch device.
        smallest: size of the smallest face to detect, pixels.
    """
    network = MTCNN(smallest)
    network.load_state_dict(load_file(DETECTOR))
    return network.eval().to(device)

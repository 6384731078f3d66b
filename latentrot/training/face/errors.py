"""Errors of the two face networks on held-out people."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentrot.faces.face_networks import LANDMARK_SIDE, PARTS_SIDE
from latentrot.faces.parts import PARTS
from latentrot.faces.upright import MIRRORED_68
from latentrot.training.face.faces import GROUPS, MARGIN, UNKNOWN, Faces
from latentrot.training.loop import channels_last


def without_margin(x: Tensor, size: int, mode: str = "bilinear") -> Tensor:
    """Resample the centre of stored squares, without augmentation: (n, c, s, s) -> (n, c, size, size)."""
    matrix = torch.tensor([[1 / MARGIN, 0, 0], [0, 1 / MARGIN, 0]]).expand(len(x), 2, 3)
    grid = F.affine_grid(matrix, [len(x), 1, size, size], align_corners=False)
    return F.grid_sample(x, grid, mode=mode, align_corners=False)


def plain_squares(faces: Faces, size: int) -> Tensor:
    """The input squares without augmentation: (n, 3, size, size) in [-1, 1]."""
    return without_margin(torch.from_numpy(faces.images).permute(0, 3, 1, 2).float() / 127.5 - 1, size)


@torch.no_grad()
def landmark_errors(network: nn.Module, faces: Faces) -> dict[str, float]:
    """Data set -> mean landmark error in percent of the distance of the outer eye corners, mirror-averaged."""
    found = []
    for rows in np.array_split(np.arange(len(faces.images)), max(1, len(faces.images) // 128)):
        x = plain_squares(faces.subset(rows), LANDMARK_SIDE)
        points, back = (network(channels_last(view))[0] for view in (x, x.flip(-1)))
        back = back[:, torch.from_numpy(MIRRORED_68)]
        found.append(((points + back * torch.tensor([-1.0, 1.0])) / 2).numpy())
    wanted = (faces.targets / faces.images.shape[1] * 2 - 1) * MARGIN
    off = np.linalg.norm(np.concatenate(found) - wanted, axis=-1).mean(1)
    corners = np.linalg.norm(wanted[:, 36] - wanted[:, 45], axis=-1)
    percent = 100 * off / np.maximum(corners, 1e-6)
    return {str(name): round(float(percent[faces.groups == name].mean()), 2) for name in np.unique(faces.groups)}


@torch.no_grad()
def parts_errors(network: nn.Module, faces: Faces) -> dict[str, dict[str, float]]:
    """Data set -> intersection over union of every group of parts."""
    report: dict[str, dict[str, float]] = {}
    for name in np.unique(faces.groups):
        groups, rows = GROUPS[str(name)], np.nonzero(faces.groups == name)[0][:150]
        both, either = np.zeros(len(groups)), np.zeros(len(groups))
        for part in np.array_split(rows, max(1, len(rows) // 16)):
            some = faces.subset(part)
            p = network(channels_last(plain_squares(some, PARTS_SIDE))).softmax(1)
            joined = torch.stack([p[:, list(g)].sum(1) for g in groups], 1).argmax(1).numpy()
            wanted = without_margin(torch.from_numpy(some.targets).float()[:, None], PARTS_SIDE, "nearest")
            wanted = wanted[:, 0].numpy().astype(int)
            known = wanted != UNKNOWN
            for i, group in enumerate(groups):
                a, b = (joined == i) & known, np.isin(wanted, group)
                both[i] += (a & b).sum()
                either[i] += (a | b).sum()
        names = ["+".join(PARTS[c] for c in g) for g in groups]
        report[str(name)] = {n: round(float(b / e), 3) for n, b, e in zip(names, both, either, strict=True) if e}
    return report

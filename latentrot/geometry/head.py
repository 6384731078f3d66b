"""Build a closed, rotatable head from a photograph, 68 landmarks and part probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import cv2
import numpy as np

from latentrot.data.arrays import check_image
from latentrot.errors import LatentrotError
from latentrot.faces.parts import HAIR
from latentrot.geometry.colour import HAT, Textures, make_textures
from latentrot.geometry.config import MeshConfig
from latentrot.geometry.depth import back_square, free_edge, front_square
from latentrot.geometry.ears import Ear, find_ears, lobes_under_hair
from latentrot.geometry.fields import blur, dilated, eroded, filled, nearest, ramp, values_at
from latentrot.geometry.outline import Outline, face_area, find_outline
from latentrot.geometry.region import Region, region_of, warped
from latentrot.geometry.shading import Shading, fit_shading, surface_normals
from latentrot.geometry.surface import SurfaceFit, fit_surface, load_surface, rotation
from latentrot.geometry.symmetry import Symmetry, find_symmetry
from latentrot.geometry.triangulate import PlanarMesh, triangulate_mask

__all__ = ["Head", "PartProbabilities", "build_head", "lift_mesh"]


class PartProbabilities(Protocol):
    """Output of `latentrot.faces.parts`: probabilities (7, n, n) and the affine map from the photograph to them."""

    @property
    def probabilities(self) -> np.ndarray:
        """(7, n, n) background, skin, hair, ears, neck, clothes, accessories."""
        ...

    @property
    def to_region(self) -> np.ndarray:
        """(2, 3) photograph positions -> positions in `probabilities`; edges at pixel borders."""
        ...


#: yaws (degrees) of a source between which it hides one side of the head
ASIDE_DEG = 8.0, 16.0
#: areas of hair (share of W squared) from which a head is not bald, and of hair below the lobes from which it is long
HAIRY, LONG = 0.04, 0.06
#: width around the outline in which loose hair hides the background, as a share of W
FRINGE = 0.06


@dataclass(frozen=True, eq=False)
class Head:
    """A head ready to be rotated.

    Args:
        photograph: (h, w, 3) uint8.
        region: the working region around the head.
        image: (h, w, 3) float32, the photograph resampled to the region.
        parts: (7, h, w) float32, part probabilities in the region.
        plate: the same with the inside of the head filled from its surroundings.
        plate_kept: (h, w) float32, 1 where the plate is the photograph.
        outside: (h, w, 2) float32, position of the nearest pixel outside the head (outside: the pixel itself).
        outline: masks.
        colours: textures.
        mesh: planar triangle mesh over the head.
        front: (n, 3) float32, mesh vertices on the front surface, z over the rim.
        back: (n, 3) the same on the back surface.
        symmetry: the plane across which the hidden half is filled.
        front_u: (h, w) float32 squared height of the front surface over the rim.
        back_u: (h, w) float32 squared depth of the back surface under the rim.
        slope: (h, w, 2) float32 slope of the front surface, across and down.
        axis: (3,) a point on the rotation axis in region pixels; its depth is that of the rim, 0.
        pose: yaw and pitch of the head in the photograph, degrees.
        marks: (68, 2) detected landmarks in the region.
        landmarks: (68, 3) on the face in the region, z over the rim.
        fit: the fitted face.
        config: parameters.
        ears: the fitted ears.
        warnings: warnings for the user.
    """

    photograph: np.ndarray
    region: Region
    image: np.ndarray
    parts: np.ndarray
    plate: np.ndarray
    plate_kept: np.ndarray
    outside: np.ndarray
    outline: Outline
    colours: Textures
    mesh: PlanarMesh
    front: np.ndarray
    back: np.ndarray
    symmetry: Symmetry
    front_u: np.ndarray
    back_u: np.ndarray
    slope: np.ndarray
    axis: np.ndarray
    pose: tuple[float, float]
    marks: np.ndarray
    landmarks: np.ndarray
    fit: SurfaceFit
    config: MeshConfig
    ears: tuple[Ear, ...] = ()
    warnings: tuple[str, ...] = ()

    def needs_whole(self, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> bool:
        """Whether a rotation by these degrees is so large that the whole head looks better: `MeshConfig.whole_from`.

        A yaw that brings the side to the front that a turned source hides counts twice.
        """
        short, long = self.config.whole_from
        aside = abs(self.pose[0]) * float(ramp(np.array(abs(self.pose[0])), *ASIDE_DEG))
        across = abs(yaw) + (min(abs(yaw), aside) if yaw * self.pose[0] < 0 else 0.0)
        return float(np.hypot(np.hypot(across, pitch), roll)) >= short + self.hair_kind[1] * (long - short)

    @cached_property
    def hair_kind(self) -> tuple[bool, float]:
        """Whether the head has hair or a hat, and how long the hair is, 0 to 1."""
        hair, width = self.parts[HAIR], self.region.width
        rows = np.arange(len(hair))[:, None]
        hairy = bool((hair * self.outline.head).sum() > HAIRY * width**2) or self.wears_a_hat
        low = ((hair > 0.5) & (rows > self.outline.lobe + 0.08 * width)).sum()
        return hairy, float(np.clip(low / (LONG * width**2), 0, 1))

    @cached_property
    def wears_a_hat(self) -> bool:
        """Whether something covers the head above the brows."""
        brows = int(max(self.landmarks[17:27, 1].min(), 0))
        return float((self.outline.hat * self.outline.head)[:brows].sum()) > HAT * self.region.width**2

    @cached_property
    def behind(self) -> tuple[np.ndarray, np.ndarray]:
        """(h, w, 3) float32 the image without the head and its edge, and (h, w) float32, 1 where that is the photograph.

        Visible only after large rotations.
        """
        bare = ~self.with_fringe
        return filled(self.image, bare, 0.02 * self.region.width), bare.astype(np.float32)

    @cached_property
    def with_fringe(self) -> np.ndarray:
        """(h, w) bool, the head with the loose hair around it."""
        return dilated(self.outline.head, FRINGE * self.region.width)

    @cached_property
    def fringed(self) -> np.ndarray:
        """(h, w) float32, `with_fringe` with a soft edge."""
        return blur(self.with_fringe.astype(np.float32), 0.02 * self.region.width)

    @cached_property
    def normals(self) -> np.ndarray:
        """(h, w, 3) float32 smoothed normals of the front surface."""
        return surface_normals(self.slope, self.outline.head, self.region.width)

    @cached_property
    def shading(self) -> Shading:
        """Shading of the head, fitted to the photograph."""
        return fit_shading(self.image, self.normals, self.outline, self.landmarks, self.region.width)


#: max fit error as a share of the width; above it, the landmarks are rejected as not those of a face
WORST_FIT = 0.09


def build_head(
    photograph: np.ndarray, landmarks: np.ndarray, parts: PartProbabilities, config: MeshConfig | None = None
) -> Head:
    """Build a head that can be rotated.

    Args:
        photograph: (h, w, 3) uint8 RGB.
        landmarks: (68, 2) photograph pixels, multi-PIE order.
        parts: probabilities of the parts around the face.
        config: parameters.

    Raises:
        LatentrotError: not an image, or the landmarks are not those of a face.
    """
    config = config or MeshConfig()
    check_image(photograph, "photograph")
    surface, fit = load_surface(), fit_surface(landmarks)
    if fit.error > WORST_FIT or fit.width < 8:
        raise LatentrotError(
            f"the landmarks do not fit a face: width {fit.width:.0f} pixels (expected at least 8), error "
            f"{100 * fit.error:.0f}% of the width (at most {100 * WORST_FIT:.0f}%); choose another face or photograph"
        )
    region = region_of(fit, (photograph.shape[1], photograph.shape[0]), config)
    width = region.width
    upright = rotation(0, 0, -fit.roll_deg)
    points = _in_region(fit.points, region)
    own = _in_region(fit.landmarks, region)
    forward = (upright @ fit.axes)[:, 2]
    axis = own[[0, 16]].mean(0) - config.axis_behind * width * forward
    lean = np.tan(np.radians(config.lean_deg))
    points, own = (
        np.column_stack([p[:, :2], config.depth_scale * (p[:, 2] - axis[2] - lean * (p[:, 1] - axis[1]))])
        for p in (points, own)
    )
    marks = region.to_region(np.asarray(landmarks, np.float64))
    narrow = surface.faces[surface.narrow[surface.faces].all(1)]
    face, depth = face_area(marks, points, narrow, region.size)
    lobe = float((own[[0, 16]].mean(0)[:2] + (upright @ fit.axes)[:2, 1] * config.lobe * width)[1])
    there = _parts_in_region(parts, region)
    outline = find_outline(there, marks, face, lobe, fit.yaw_deg, region, config)
    front_u, back_u = front_square(outline, depth, width, config), back_square(outline, width, config)
    image = region.crop(photograph)
    mesh = triangulate_mask(outline.to_rest)
    height = np.sqrt(front_u)
    front, back = lift_mesh(mesh, outline, front_u, back_u, width)
    smooth = blur(height, 0.008 * width)
    slope = np.stack([cv2.Sobel(smooth, cv2.CV_32F, i, 1 - i, ksize=3, scale=1 / 8) for i in (1, 0)], -1)
    slope = np.clip(slope, -6, 6).astype(np.float32)
    colours = make_textures(
        image, outline, region.in_photograph, lobes_under_hair(outline, there, own, width), width, config
    )
    core = eroded(outline.head, _edge(width))
    return Head(
        photograph=photograph,
        region=region,
        image=image,
        parts=there,
        plate=_plate(image, outline, core, region),
        plate_kept=(~core).astype(np.float32),
        outside=_outside(outline, width),
        outline=outline,
        colours=colours,
        symmetry=find_symmetry(colours.front, height, slope, outline, own, fit.yaw_deg, width, config),
        mesh=mesh,
        front=front,
        back=back,
        front_u=front_u,
        back_u=back_u,
        slope=slope,
        axis=np.array([axis[0], axis[1], 0.0]),
        pose=(fit.yaw_deg, fit.pitch_deg),
        marks=marks,
        landmarks=own,
        fit=fit,
        config=config,
        ears=find_ears(image, outline, there, height, own, upright @ fit.axes, width),
        warnings=tuple(_warnings(fit, outline, region)),
    )


def _edge(width: float) -> float:
    """Width in pixels of the mixed band on each side of a head's outline."""
    return max(2.0, 0.03 * width)


def _outside(outline: Outline, width: float) -> np.ndarray:
    """Position of the nearest pixel outside the head for each pixel; above the neck also outside the head's edge."""
    above = np.arange(len(outline.head))[:, None] < outline.lobe - 0.1 * width
    rows, columns = nearest(~(outline.head | (dilated(outline.head, 0.02 * width) & above)))
    return np.stack([columns + 0.5, rows + 0.5], -1).astype(np.float32)


def _plate(image: np.ndarray, outline: Outline, core: np.ndarray, region: Region) -> np.ndarray:
    """The region's image without the head: background above, colours of the neck between the shoulders."""
    width = region.width
    rows, columns = np.mgrid[: core.shape[0], : core.shape[1]].astype(np.float32)
    behind = filled(image, ~core, 0.02 * width)
    neck = outline.person & ~outline.head & (rows < outline.chin + 0.35 * width)
    neck &= np.abs(columns - region.middle[0]) < 0.6 * width
    if neck.sum() < 30:
        return np.where(core[..., None], behind, image).astype(np.float32)
    throat = filled(image, neck, 0.02 * width)
    column = ramp(rows, outline.lobe - 0.2 * width, outline.lobe) * ramp(
        np.abs(columns - region.middle[0]), 0.5 * width, 0.42 * width
    )
    fill = behind * (1 - column[..., None]) + throat * column[..., None]
    soft = blur(core.astype(np.float32), 1.0)[..., None]
    return image * (1 - soft) + fill * soft


def _in_region(points: np.ndarray, region: Region) -> np.ndarray:
    """Photograph points (n, 3) in region coordinates; depths are scaled and keep their zero."""
    return np.column_stack([region.to_region(points[:, :2]), points[:, 2] * region.scale])


def _parts_in_region(parts: PartProbabilities, region: Region) -> np.ndarray:
    """Part probabilities on the region's grid, (7, h, w) float32."""
    there = np.asarray(parts.to_region, np.float64)
    back = region.inverse
    onward = np.column_stack([there[:, :2] @ back[:, :2], there[:, :2] @ back[:, 2] + there[:, 2]])
    linear = np.linalg.inv(onward[:, :2])
    matrix = np.column_stack([linear, -linear @ onward[:, 2]])
    planes = [
        warped(np.ascontiguousarray(p, np.float32), matrix, region.size, cv2.INTER_LINEAR) for p in parts.probabilities
    ]
    return np.clip(np.stack(planes), 0, 1)


def lift_mesh(
    mesh: PlanarMesh, outline: Outline, front_u: np.ndarray, back_u: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Lift the mesh vertices to the front and the back surface, which meet at the person's silhouette."""
    inside = values_at(outline.to_background, mesh.points)
    met = np.where(mesh.rim, ramp(inside, 1.5, 4.0), 1.0)
    held = np.maximum(met, values_at(free_edge(outline, width), mesh.points))
    front = np.sqrt(np.maximum(values_at(front_u, mesh.points), 0) * held)
    back = -np.sqrt(np.maximum(values_at(back_u, mesh.points), 0) * met)
    front, back = (np.column_stack([mesh.points, z]).astype(np.float32) for z in (front, back))
    return front, back


def _warnings(fit: SurfaceFit, outline: Outline, region: Region) -> list[str]:
    """Warnings for the user about this head."""
    warnings = []
    if abs(fit.yaw_deg) > 45:
        warnings.append(f"the head is already turned by {fit.yaw_deg:+.0f} degrees: half of the face is hidden")
    if fit.width < 40:
        warnings.append(f"the face is only {fit.width:.0f} pixels wide")
    width, height = region.photo_size
    box = region.to_photo(np.argwhere(outline.head)[:, ::-1] + 0.5)
    out = (box[:, 0] < 0) | (box[:, 0] > width) | (box[:, 1] < 0) | (box[:, 1] > height)
    if out.mean() > 0.05:
        warnings.append("the border of the photograph cuts the head off")
    return warnings

"""Parameters of the mesh rotation."""

from __future__ import annotations

from dataclasses import dataclass

from latentrot.errors import LatentrotError

__all__ = ["MeshConfig"]


@dataclass(frozen=True)
class MeshConfig:
    """Parameters of the mesh rotation. Lengths are shares of the face width W unless a unit is given.

    Args:
        side: half the width of the working region.
        above: extent of the region above the ears.
        below: extent of the region below the ears.
        smallest_px: narrower faces are enlarged to this width.
        largest_px: wider faces are reduced to this width; their fine detail is warped separately.
        axis_behind: distance of the rotation axis and the head's rim behind the edge points of the face.
        depth_scale: factor on the depth of the face in front of the axis.
        lean_deg: correction of the fitted pitch: lean of the forehead towards the viewer.
        back_depth: depth of the back of the head behind the rim.
        swell: source term of the Poisson equation: how strongly hair and other soft parts bulge towards the viewer.
        lobe: distance of the ear lobes below the middle of the ears.
        hair_cut: hair further below the lobes than this hangs freely and does not rotate with the head.
        hair_rim: depth of the rim whose colours are replaced from inside, for hair.
        skin_rim: the same for skin.
        back_shade: brightness of the back of the head relative to the hair in front.
        usual_hair: blend of stretched hair towards the average colour of the hair around it, 0 to 1.
        strands: strength of the synthesized hair detail relative to the visible one; at 1 its pattern is noticeable.
        fade: width of the transition between synthesized hair and the photograph.
        stretch: enlargements between which hair is replaced by synthesized texture.
        torn: enlargements between which skin next to hair is replaced by hair: the depth is discontinuous there.
        falloff: min distance from the head over which the displacement of the surroundings falls off to zero.
        falloff_min_ratio: min ratio of that distance to the largest displacement.
        edge: width of the head's soft edge.
        mirror_from: source yaws in degrees between which the hidden cheek starts to be filled from the visible one.
        whole_from: rotations in degrees from which the whole head is rendered, with short and with long hair.
        yaw_reach: max rotation in degrees.
        light_follows: the light rotates with the head; else it stays fixed in the scene.
    """

    side: float = 1.5
    above: float = 1.6
    below: float = 1.6
    smallest_px: int = 200
    largest_px: int = 280
    axis_behind: float = 0.10
    depth_scale: float = 1.16
    lean_deg: float = 0.0
    back_depth: float = 0.38
    swell: float = 3.0
    lobe: float = 0.43
    hair_cut: float = 0.16
    hair_rim: float = 0.05
    skin_rim: float = 0.015
    back_shade: float = 0.85
    usual_hair: float = 0.7
    strands: float = 0.6
    fade: float = 0.03
    stretch: tuple[float, float] = (1.15, 1.75)
    torn: tuple[float, float] = (1.4, 2.2)
    falloff: float = 0.4
    falloff_min_ratio: float = 2.2
    edge: float = 0.02
    mirror_from: tuple[float, float] = (5.0, 12.0)
    whole_from: tuple[float, float] = (33.0, 42.0)
    yaw_reach: float = 120.0
    light_follows: bool = False

    def __post_init__(self) -> None:
        if not 64 <= self.smallest_px <= self.largest_px <= 640:
            raise LatentrotError(
                f"smallest_px {self.smallest_px}, largest_px {self.largest_px}: expected 64 to 640 pixels in this order"
            )
        lengths = ("side", "above", "below", "depth_scale", "back_depth", "swell", "falloff", "edge")
        for name in lengths:
            if not getattr(self, name) > 0:
                raise LatentrotError(f"{name} {getattr(self, name)}: expected more than 0")

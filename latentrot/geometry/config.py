"""Every parameter of the turn by geometry, at one site."""

from __future__ import annotations

from dataclasses import dataclass

from latentrot.errors import LatentrotError

__all__ = ["MeshConfig"]


@dataclass(frozen=True)
class MeshConfig:
    """How a photograph is turned by geometry. Lengths are shares of the face's width W unless a unit is named.

    Args:
        side: half the width of the region that is worked in.
        above: the region's reach above the ears.
        below: its reach below them.
        smallest_px: faces narrower than this are worked on enlarged.
        largest_px: faces wider than this are worked on reduced; their fine detail is carried separately.
        axis_behind: how far behind the face's edge points the turning axis and the head's rim lie.
        depth_scale: factor on the face's depth in front of the axis.
        lean_deg: correction of the fitted face's pitch: how far its forehead is leaned towards the viewer.
        back_depth: how far the back of the head lies behind the rim.
        swell: how strongly hair and all else swell towards the viewer (the source of the Poisson equation).
        lobe: how far below the ears' middle their lobes end.
        hair_cut: below the lobes by this much hair hangs from the head instead of turning with it.
        hair_rim: depth of the rim whose colours are replaced from inside, hair.
        skin_rim: the same for skin.
        back_shade: brightness of the back of the head against the hair in front.
        usual_hair: how far hair that is drawn wider than it was seen takes the colour that hair has around there, 0 to 1.
        strands: strength of the detail of hair that is laid on, against what is seen; as strong, its pattern shows.
        fade: over so much drawn hair and what the photograph shows run into each other.
        stretch: enlargements between these two hand hair over to texture that is laid on.
        torn: enlargements between these two make skin that hair touches hair: there the surface jumps, nothing is seen.
        give_way: how far from the head the surroundings give way at least.
        give_way_times: and at least this many times as far as they have to move.
        edge: width of the head's soft edge.
        mirror_from: yaws of the source, degrees, between which the hidden cheek begins to be filled from the seen one.
        yaw_reach: no turn is longer than this, degrees.
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
    give_way: float = 0.4
    give_way_times: float = 2.2
    edge: float = 0.02
    mirror_from: tuple[float, float] = (5.0, 12.0)
    yaw_reach: float = 120.0

    def __post_init__(self) -> None:
        if not 64 <= self.smallest_px <= self.largest_px <= 640:
            raise LatentrotError(
                f"smallest_px {self.smallest_px}, largest_px {self.largest_px}: expected 64 to 640 pixels in this order"
            )
        lengths = ("side", "above", "below", "depth_scale", "back_depth", "swell", "give_way", "edge")
        for name in lengths:
            if not getattr(self, name) > 0:
                raise LatentrotError(f"{name} {getattr(self, name)}: expected more than 0")

"""One face of a photograph, prepared once and edited many times: by an edit, a video, a page."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from latentrot.data.images import resize
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment
from latentrot.geometry import Head, HeadFitter, build_head
from latentrot.portrait.compose import Patch, changed_patch, compose
from latentrot.portrait.portrait import EditConfig, Portrait
from latentrot.portrait.turns import Turn
from latentrot.portrait.upscale import Upscaler
from latentrot.progress import Clock
from latentrot.rotators.protocol import (
    CROP_SIDE,
    PhotographRotator,
    Prepared,
    RotatedCrop,
    RotatedCrops,
    Rotator,
    capabilities_of,
    measure,
    prepare,
    takes_photographs,
)

__all__ = ["EditedFace", "PreparedFace", "prepare_face"]

#: patches of all rotations are kept while they take no more than so many bytes together; beyond, each is made when it is
#: wanted
KEPT_BYTES = 200_000_000


@dataclass(frozen=True, eq=False)
class EditedFace:
    """One face of a photograph and its rotations.

    Attributes:
        turned: the rotated crops with what was measured on them; on the photograph that comes out where there is one.
        asked: the rotations, by so many degrees.
        alignment: photograph -> CelebA frame; None for an image that was a crop already.
        head: the head that is rotated; None where geometry has no part.
        config: how it was edited.
        drawn: whether a model drew the rotated face, or geometry alone made it.
        coverage: for each rotation the share of the face that the photograph itself shows; empty where it is not known.
        kept: the rotations in the photograph, as far as they are kept.
        warnings: what the user should know.
    """

    turned: RotatedCrops
    asked: tuple[Turn, ...]
    alignment: Alignment | None
    head: Head | None = None
    config: EditConfig = field(default_factory=EditConfig)
    drawn: bool = True
    coverage: tuple[float, ...] = ()
    kept: tuple[Patch, ...] = ()
    warnings: tuple[str, ...] = ()

    def patch(self, i: int) -> Patch:
        """The i-th rotation in the photograph."""
        if self.kept:
            return self.kept[i]
        if self.head is None:
            raise LatentrotError("a crop alone was rotated; there is no photograph to put it into")
        return compose(self.head, self.asked[i], self.turned.frames[i].image if self.drawn else None, self.config)


@dataclass(eq=False)
class PreparedFace:
    """One face, ready to be edited.

    Attributes:
        portrait: the photograph.
        alignment: photograph -> CelebA frame; None for an image that was a crop already.
        rotator: draws the rotated face, or leaves it to geometry.
        crop: what the rotator prepared of it.
        config: how it is edited.
        pending: the head, which is set up beside the crop; None where geometry has no part.
        fitter: sets it up.
    """

    portrait: Portrait
    alignment: Alignment | None
    rotator: Rotator
    crop: Prepared
    config: EditConfig
    pending: Future[Head] | None = None
    fitter: HeadFitter | None = None

    @cached_property
    def head(self) -> Head | None:
        """The head set up from the photograph; None where geometry has no part.

        Raises:
            LatentrotError: it cannot be set up.
        """
        return None if self.pending is None else self.pending.result()

    @property
    def leaves_to_geometry(self) -> bool:
        """Whether the rotator draws nothing, and the rotated face is geometry's."""
        return self.pending is not None and not capabilities_of(self.rotator).draws

    def edit(self, turns: Sequence[Turn], upscaler: Upscaler | None = None, clock: Clock | None = None) -> EditedFace:
        """Rotate the face and composite it into its photograph.

        Args:
            turns: by so many degrees; yaws are poses to reach if `config.absolute`.
            upscaler: restores every drawn crop.
            clock: of the whole edit.

        Raises:
            LatentrotError: the face cannot be rotated, and why.
        """
        clock = clock or Clock()
        asked = tuple(map(self.relative, turns))
        by = [t.yaw for t in asked]
        whole = self.pending is None and not self.config.crop_only
        if whole and takes_photographs(self.rotator) and self.alignment is not None:
            return self.edit_photographs(self.rotator, self.alignment, asked, clock)
        drawn = self.draw(by)
        warnings = (*(self.head.warnings if self.head else ()), *drawn.warnings)
        if upscaler is not None and not self.leaves_to_geometry:
            drawn = upscaler.upscale_rotated(drawn)
        clock.lap("draw", drawn.seconds)
        edited = EditedFace(
            drawn, asked, self.alignment, self.head, self.config, not self.leaves_to_geometry, warnings=warnings
        )
        return edited if self.head is None else self.composite(edited, clock)

    def relative(self, turn: Turn) -> Turn:
        """A rotation as asked for -> the one to rotate by."""
        if not self.config.absolute:
            return turn
        yaw = turn.yaw - self.crop.yaw_deg
        return self.pose.to(turn) if self.config.whole_pose else replace(turn, yaw=yaw)

    @property
    def pose(self) -> Turn:
        """Yaw and pitch of the face as the label network measures them, and its roll by its landmarks."""
        roll = self.head.fit.roll_deg if self.head else self.alignment.roll_deg if self.alignment else 0.0
        return Turn(self.crop.yaw_deg, self.crop.pitch_deg, roll)

    def draw(self, degrees: Sequence[float]) -> RotatedCrops:
        """The crop and its rotations as the rotator draws them; of one that leaves it to geometry, as it is."""
        crop = self.crop
        if not self.leaves_to_geometry:
            return crop.rotate(degrees)
        frames = [RotatedCrop(d, crop.yaw_deg, crop.pitch_deg, crop.light, crop.source) for d in degrees]
        return RotatedCrops(crop.source, crop.source, crop.yaw_deg, crop.pitch_deg, crop.light, frames)

    def composite(self, edited: EditedFace, clock: Clock) -> EditedFace:
        """The edit with what is measured on the photographs that come out."""
        patches, frames = [], []
        for i, frame in enumerate(edited.turned.frames):
            patch = edited.patch(i)
            patches.append(patch)
            frames.append(self.measured(patch, frame, edited.drawn))
            if sum(p.pixels.nbytes for p in patches) > KEPT_BYTES:
                patches.clear()
        clock.lap("put together")
        kept = tuple(patches) if len(patches) == len(frames) else ()
        coverage = tuple(p.coverage for p in kept)
        return replace(edited, turned=replace(edited.turned, frames=frames), coverage=coverage, kept=kept)

    def edit_photographs(
        self, rotator: PhotographRotator, alignment: Alignment, asked: Sequence[Turn], clock: Clock
    ) -> EditedFace:
        """The face as a rotator of whole photographs rotates it."""
        if not all(t.yaw_alone for t in asked):
            raise LatentrotError(
                f"the rotator {capabilities_of(self.rotator).name} cannot change pitch or roll; leave them out"
            )
        image, crop = self.portrait.image, self.crop
        rotated = rotator.rotate_photograph(image, alignment, [t.yaw for t in asked])
        patches = tuple(changed_patch(image, after, alignment) for after in rotated)
        blank = [RotatedCrop(t.yaw, crop.yaw_deg, crop.pitch_deg, crop.light, crop.source) for t in asked]
        frames = [self.measured(patch, frame, False) for patch, frame in zip(patches, blank, strict=True)]
        clock.lap("draw")
        turned = RotatedCrops(crop.source, crop.source, crop.yaw_deg, crop.pitch_deg, crop.light, frames)
        return EditedFace(turned, tuple(asked), alignment, None, self.config, kept=patches)

    def measured(self, patch: Patch, frame: RotatedCrop, drawn: bool) -> RotatedCrop:
        """A rotation with pose and light as they are in the photograph; its own crop as the image if none was drawn."""
        result = self.portrait.image.copy()
        patch.paste(result)
        alignment = self.alignment or patch.alignment
        side = max(64, min(CROP_SIDE, round(alignment.crop_side)))
        square = patch.alignment.crop(result, side)
        yaw, pitch, light = measure(self.rotator, square, self.config.perception_device)
        return replace(
            frame, yaw_deg=yaw, pitch_deg=pitch, light=light, image=frame.image if drawn else resize(square, side)
        )


def prepare_face(
    portrait: Portrait,
    alignment: Alignment | None,
    rotator: Rotator,
    config: EditConfig | None = None,
    like: Prepared | None = None,
    beside: PreparedFace | None = None,
    clock: Clock | None = None,
) -> PreparedFace:
    """Set the head of a face up, and let the rotator prepare its crop beside it.

    Args:
        portrait: the photograph.
        alignment: photograph -> CelebA frame; None for an image that is a crop already.
        rotator: any.
        config: how the face is edited.
        like: what was prepared of the same face in an earlier frame.
        beside: the same face prepared for another rotator; its head is shared where both set it up alike.
        clock: of the whole edit.

    Raises:
        LatentrotError: landmarks cannot be found with any certainty, or the rotator refuses the face.
    """
    config, clock, can = config or EditConfig(), clock or Clock(), capabilities_of(rotator)
    device = config.perception_device
    pending, fitter = None, can.fitter or HeadFitter(device=device)
    whole = takes_photographs(rotator) and can.draws
    if alignment is not None and not config.crop_only and not whole:
        if beside is not None and beside.fitter == fitter:
            pending = beside.pending
        else:
            pending = set_up_head(portrait, alignment, fitter)
        if pending is not None and not can.concurrent:  # it may call the geometry's kernels, which allow one caller
            wait([pending])
        clock.lap("set up head")
    square = portrait.image if alignment is None else alignment.crop(portrait.image, can.crop_side)
    if config.reify:
        square = reified(rotator, square)
    crop = prepare(rotator, square, light=config.light, like=like, device=device)
    clock.lap("draw", crop.seconds)
    return PreparedFace(portrait, alignment, rotator, crop, config, pending, fitter)


def set_up_head(portrait: Portrait, alignment: Alignment, fitter: HeadFitter) -> Future[Head]:
    """The head of a face, set up in a thread once its landmarks and parts are estimated."""
    image = portrait.image
    parsed = fitter.parse(image, alignment, portrait.faces)
    with_one_thread = ThreadPoolExecutor(1)
    pending = with_one_thread.submit(build_head, image, *parsed, fitter.config)
    with_one_thread.shutdown(wait=False)
    return pending


def reified(rotator: Rotator, square: np.ndarray) -> np.ndarray:
    """A painted crop brought towards the photographs a model knows.

    Raises:
        LatentrotError: the rotator cannot.
    """
    reify = getattr(rotator, "reify", None)
    if reify is None:
        raise LatentrotError(f"the rotator {capabilities_of(rotator).name} cannot reify; leave it out, or use latent")
    return reify(square)

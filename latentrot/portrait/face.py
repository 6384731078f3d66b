"""Prepare one face of a photograph once, then edit it many times; shared by single edits, videos and the web page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from latentrot.data.arrays import resize
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

#: max bytes of all cached patches of a face; above it, no patch is cached and each is composited again on access
KEPT_BYTES = 200_000_000
#: error of the label network's yaw from which a warning is given, degrees
MISREAD_DEG = 10.0


@dataclass(frozen=True, eq=False)
class EditedFace:
    """One face of a photograph and its rotations.

    Attributes:
        turned: rotated crops with their poses and lights, measured on the edited photograph, or on the crop if only a crop
            was edited.
        turns: the rotations, relative to the source, degrees.
        alignment: similarity transform from the photograph to the CelebA frame; None if the image was already a crop.
        head: the fitted 3-D head; None if the edit does not use geometry.
        config: options of the edit.
        whole: True if the whole head is rendered, for all rotations alike.
        drawn: True if the rotator generated the rotated face; False if geometry rendered it, alone or as a whole head.
        coverage: for each rotation, the share of the face's pixels visible in the source, 0 to 1; empty if unknown.
        kept: cached patches, one per rotation; empty if they exceed `KEPT_BYTES`.
        warnings: warnings for the user.
    """

    turned: RotatedCrops
    turns: tuple[Turn, ...]
    alignment: Alignment | None
    head: Head | None = None
    config: EditConfig = field(default_factory=EditConfig)
    whole: bool = False
    drawn: bool = True
    coverage: tuple[float, ...] = ()
    kept: tuple[Patch, ...] = ()
    warnings: tuple[str, ...] = ()

    def patch(self, i: int) -> Patch:
        """Return the part of the photograph that the i-th rotation changes.

        Raises:
            LatentrotError: only a crop was edited, so there is no photograph.
        """
        if self.kept:
            return self.kept[i]
        if self.head is None:
            raise LatentrotError("only a crop was edited, so it cannot be composited; edit a whole photograph")
        drawn = self.turned.frames[i].image if self.drawn else None
        return compose(self.head, self.turns[i], drawn, self.config, self.whole)


@dataclass(eq=False)
class PreparedFace:
    """One face, ready to be edited.

    Attributes:
        portrait: the photograph.
        alignment: similarity transform from the photograph to the CelebA frame; None if the image was already a crop.
        rotator: generates the rotated face, or leaves it to geometry.
        crop: the rotator's prepared crop (for the latent rotator, its inverted latent).
        config: options of the edit.
        fitter: fits the head.
        pending: future of the 3-D head, fitted in a thread of its own; None if the edit does not use geometry.
    """

    portrait: Portrait
    alignment: Alignment | None
    rotator: Rotator
    crop: Prepared
    config: EditConfig
    fitter: HeadFitter
    pending: Future[Head] | None = None

    @cached_property
    def head(self) -> Head | None:
        """The 3-D head fitted to the photograph; waits until it is fitted. None if the edit does not use geometry.

        Raises:
            LatentrotError: the head cannot be fitted.
        """
        return None if self.pending is None else self.pending.result()

    @property
    def geometry_only(self) -> bool:
        """Whether geometry alone renders the rotated face, because the rotator generates none."""
        return self.pending is not None and not capabilities_of(self.rotator).draws

    def edit(
        self,
        turns: Sequence[Turn],
        upscaler: Upscaler | None = None,
        clock: Clock | None = None,
        whole: bool | None = None,
    ) -> EditedFace:
        """Rotate the face and composite it into its photograph.

        Args:
            turns: rotations relative to the source, degrees; target yaws if `config.absolute`, and target pitches and
                rolls, too, if `config.whole_pose`.
            upscaler: restoration network, applied to each generated crop.
            clock: stopwatch of the whole edit.
            whole: render the whole head; None: if one of the rotations needs it.

        Raises:
            LatentrotError: the face cannot be rotated; the message gives the reason.
        """
        clock = clock or Clock()
        relative = tuple(map(self.relative, turns))
        by = [t.yaw for t in relative]
        alone = self.pending is None and not self.config.crop_only
        if alone and takes_photographs(self.rotator) and self.alignment is not None:
            return self.edit_photographs(self.rotator, self.alignment, relative, clock)
        if whole is None and any(map(self.may_show_whole, relative)):
            whole = self.shows_whole(relative)
        draws = self.draws(bool(whole))
        turned = self.crop.rotate(by) if draws else self.unrotated(by)
        if draws:
            turned = turned if upscaler is None else upscaler.upscale_rotated(turned)
            clock.lap("draw", turned.seconds)
        warnings = (*(self.head.warnings if self.head else ()), *turned.warnings)
        clock.lap("fit head")
        whole = self.shows_whole(relative) if whole is None else whole
        edited = EditedFace(
            turned, relative, self.alignment, self.head, self.config, whole, draws, warnings=warnings,
        )  # fmt: skip
        return edited if self.head is None else self.composite(edited, clock)

    @property
    def reach(self) -> tuple[float, float] | None:
        """Calibrated range of the rotator in degrees; None: there is none, or geometry renders what lies beyond it."""
        return self.crop.reach if self.pending is None else None

    def draws(self, whole: bool) -> bool:
        """Whether the rotator generates the face; geometry renders it if the rotator generates none, and `whole` heads."""
        return self.pending is None or self.config.reify or not (whole or self.geometry_only)

    def steady(self, turns: Sequence[Turn]) -> bool:
        """Calibrate the face for all rotations of a video, so that its frames are consistent.

        Args:
            turns: the rotations, or the largest ones, relative to the source, degrees.

        Returns:
            Whether the whole head is to be rendered in every frame.
        """
        whole = self.shows_whole(turns)
        if self.draws(whole):
            yaws = [t.yaw for t in turns]
            self.crop = self.crop.calibrated(sorted({min(yaws), max(yaws)}), steady=True)
        return whole

    def may_show_whole(self, turn: Turn) -> bool:
        """Whether a rotation may need the whole head; see `Head.needs_whole`.

        Judged without the head, which is fitted while the rotator generates the face.
        """
        across = abs(turn.yaw) + min(abs(turn.yaw), abs(self.crop.yaw_deg))
        return math.hypot(across, turn.pitch, turn.roll) >= self.fitter.config.whole_from[0]

    def shows_whole(self, turns: Sequence[Turn]) -> bool:
        """Whether one of these rotations, relative to the source, needs the whole head."""
        return self.head is not None and any(self.head.needs_whole(t.yaw, t.pitch, t.roll) for t in turns)

    def relative(self, turn: Turn) -> Turn:
        """Convert a requested rotation, which may be a target pose, to a rotation relative to the source, degrees."""
        if not self.config.absolute:
            return turn
        yaw = turn.yaw - self.crop.yaw_deg
        return self.pose.to(turn) if self.config.whole_pose else replace(turn, yaw=yaw)

    @property
    def pose(self) -> Turn:
        """Pose of the source in degrees: yaw and pitch by the label network, roll by the landmarks."""
        roll = self.head.fit.roll_deg if self.head else self.alignment.roll_deg if self.alignment else 0.0
        return Turn(self.crop.yaw_deg, self.crop.pitch_deg, roll)

    def unrotated(self, degrees: Sequence[float]) -> RotatedCrops:
        """The source crop for every angle in degrees of yaw, for geometry to render."""
        crop = self.crop
        frames = [RotatedCrop(d, crop.yaw_deg, crop.pitch_deg, crop.light, crop.source) for d in degrees]
        return RotatedCrops(crop.source, crop.source, crop.yaw_deg, crop.pitch_deg, crop.light, frames)

    def composite(self, edited: EditedFace, clock: Clock) -> EditedFace:
        """Composite each rotation into the photograph, and measure pose and light on the results."""
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
        warnings = (*edited.warnings, *(misread(self.crop.yaw_deg, frames) if edited.whole else []))
        turned = replace(edited.turned, frames=frames)
        return replace(edited, turned=turned, coverage=coverage, kept=kept, warnings=warnings)

    def edit_photographs(
        self, rotator: PhotographRotator, alignment: Alignment, turns: Sequence[Turn], clock: Clock
    ) -> EditedFace:
        """Edit with a rotator that rotates whole photographs.

        Raises:
            LatentrotError: a rotation changes pitch or roll.
        """
        if not all(t.yaw_alone for t in turns):
            raise LatentrotError(
                f"the rotator {capabilities_of(self.rotator).name} cannot change pitch or roll; leave them out"
            )
        image, crop = self.portrait.image, self.crop
        rotated = rotator.rotate_photograph(image, alignment, [t.yaw for t in turns])
        patches = tuple(changed_patch(image, after, alignment) for after in rotated)
        blank = [RotatedCrop(t.yaw, crop.yaw_deg, crop.pitch_deg, crop.light, crop.source) for t in turns]
        frames = [self.measured(patch, frame, False) for patch, frame in zip(patches, blank, strict=True)]
        clock.lap("draw")
        turned = RotatedCrops(crop.source, crop.source, crop.yaw_deg, crop.pitch_deg, crop.light, frames)
        return EditedFace(turned, tuple(turns), alignment, None, self.config, kept=patches)

    def measured(self, patch: Patch, frame: RotatedCrop, drawn: bool) -> RotatedCrop:
        """Measure pose and light of a rotation on the edited photograph.

        Args:
            patch: the changed part of the photograph.
            frame: the rotated crop.
            drawn: whether the rotator generated the crop; otherwise the crop is cut from the edited photograph.
        """
        result = self.portrait.image.copy()
        patch.paste(result)
        alignment = self.alignment or patch.alignment
        side = max(64, min(CROP_SIDE, round(alignment.crop_side)))
        square = patch.alignment.crop(result, side)
        yaw, pitch, light = measure(self.rotator, square, self.config.perception_device)
        return replace(
            frame, yaw_deg=yaw, pitch_deg=pitch, light=light, image=frame.image if drawn else resize(square, side)
        )


def misread(yaw_deg: float, frames: Sequence[RotatedCrop]) -> list[str]:
    """A warning if the label network reads the yaw of whole heads too low, for the rotation where it is furthest off.

    Args:
        yaw_deg: yaw of the source, degrees.
        frames: rotations by geometry, which are accurate: an independent network reads 44 and 55 of 45 and 60 degrees.
    """
    off, true, read = max(
        (abs(yaw_deg + f.requested_deg) - abs(f.yaw_deg), yaw_deg + f.requested_deg, f.yaw_deg) for f in frames
    )
    if off <= MISREAD_DEG:
        return []
    return [
        f"the label network reads large yaws too low: {read:+.0f} degrees for a head that geometry turned to {true:+.0f}"
    ]


def prepare_face(
    portrait: Portrait,
    alignment: Alignment | None,
    rotator: Rotator,
    config: EditConfig | None = None,
    like: Prepared | None = None,
    beside: PreparedFace | None = None,
    clock: Clock | None = None,
) -> PreparedFace:
    """Fit the 3-D head of a face in a thread while the rotator prepares its crop.

    Args:
        portrait: the photograph.
        alignment: similarity transform from the photograph to the CelebA frame; None if the image is already a crop.
        rotator: any rotator.
        config: options of the edit.
        like: the same face prepared in an earlier video frame; its light and calibration are reused.
        beside: the same face prepared for another rotator; its head is reused if both use the same fitter.
        clock: stopwatch of the whole edit.

    Raises:
        LatentrotError: the landmarks are too uncertain, or the rotator refuses the face.
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
        if (
            pending is not None and not can.concurrent
        ):  # the rotator may call kernels of the geometry, which allow one caller at a time
            wait([pending])
        clock.lap("set up head")
    square = portrait.image if alignment is None else alignment.crop(portrait.image, can.crop_side)
    if config.reify:
        square = reified(rotator, square)
    crop = prepare(rotator, square, light=config.light, like=like, device=device)
    clock.lap("draw", crop.seconds)
    return PreparedFace(portrait, alignment, rotator, crop, config, fitter, pending)


def set_up_head(portrait: Portrait, alignment: Alignment, fitter: HeadFitter) -> Future[Head]:
    """Estimate landmarks and face parts, then start fitting the 3-D head in a thread."""
    image = portrait.image
    parsed = fitter.parse(image, alignment, portrait.faces)
    with_one_thread = ThreadPoolExecutor(1)
    pending = with_one_thread.submit(build_head, image, *parsed, fitter.config)
    with_one_thread.shutdown(wait=False)
    return pending


def reified(rotator: Rotator, square: np.ndarray) -> np.ndarray:
    """Move a crop of a painting towards the model's training photographs.

    Args:
        rotator: must have a method `reify`.
        square: (s, s, 3) uint8 crop.

    Raises:
        LatentrotError: the rotator has no method `reify`.
    """
    reify = getattr(rotator, "reify", None)
    if reify is None:
        raise LatentrotError(
            f"the rotator {capabilities_of(rotator).name} does not support --reify; leave it out, or use latent"
        )
    return reify(square)

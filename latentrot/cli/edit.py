"""Turn faces: `edit` and `demo`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from latentrot.bundles import PORTRAIT, direction_files
from latentrot.cli.common import RuntimeOptions, model_named, rotator_named
from latentrot.errors import LatentrotError
from latentrot.files import check_writable, free_path

if TYPE_CHECKING:
    from latentrot.portrait.find import EditConfig
    from latentrot.portrait.photograph import Edited
    from latentrot.portrait.turns import Turn
    from latentrot.portrait.upscale import Upscaler
    from latentrot.rotators.latent import LatentRotator
    from latentrot.rotators.protocol import Rotator

__all__ = ["Demo", "Edit"]


@dataclass(frozen=True)
class Edit:
    """Turn the face in a photograph, in every photograph of a folder, or in a video.

    Exit code 0: all were turned; 2: some or all were not, after everything else was done.
    """

    image: Annotated[Path, tyro.conf.Positional]
    """the picture, a folder of pictures (subfolders are not read), or a video (.mp4, .mov, .mkv, .webm, .avi); an animated
    picture (GIF, WebP, PNG) is turned frame by frame as a video is"""
    deg: float | None = None
    """turn BY so many measured degrees; > 0: nose to the viewer's right"""
    to: float | None = None
    """turn TO this pose in degrees"""
    sweep: str | None = None
    """FIRST:LAST:COUNT, several turns, for example -30:30:7"""
    pitch: str | None = None
    """also look up (> 0) or down by so many degrees, or FIRST:LAST:COUNT: every pitch with every turn"""
    rotator: str = "latent"
    """latent: a walk along the model's lines, whose face fills what the photograph did not show; mesh: geometry alone, quick
    and at any size; pair: a diffusion model trained on pairs of pictures, which mends what geometry shows; spin: a
    multi-view diffusion model of whole heads; or a rotator of your own as package.module:name"""
    out: Path | None = None
    """.png or .jpg: the turned picture, or a strip of a sweep; .webp: the picture, or a sweep in motion; .gif or .mp4:
    a sweep in motion, there and back, or before and after; without a suffix: a folder for strip, turned pictures and
    report; by default NAME-turned.png in the current folder, numbered where
    something is there. A folder given again is replaced. For a folder of pictures: another folder, NAME.png each, or with
    several turns a folder NAME each, with poses in the file names and all of them in views.csv; for a video: an .mp4; for an
    animated picture: a .gif, .webp or .mp4"""
    model: str | None = None
    """a diffusers folder, a Hub id or a bundled model (faces64, heads64); by default faces64. With --rotator pair
    or spin: a folder that train-pair or train-spin wrote; by default pair64 or spin64, where it comes along"""
    identity: Path | None = None
    """with --rotator spin: the weights that the model was trained with by train-spin --identity"""
    directions: Path | None = None
    """folder of directions files; by default those in the model's own folder, else directions/"""
    light: Literal["auto", "left", "center", "right"] = "auto"
    """side of the picture the main light comes from"""
    face: str = "largest"
    """which face: largest, its number, or all"""
    crop: bool = False
    """the picture is already a square crop in the CelebA frame"""
    crop_only: bool = False
    """write the turned square alone, at the model's resolution, instead of pasting it back"""
    reify: bool = False
    """bring a painted or drawn face towards the photographs the model knows, before it is turned (--deg 0: only that)"""
    upscale: Path | None = None
    """weights of a super-resolution or restoration network you have (.safetensors, .pth; anything spandrel knows), applied
    to the turned face before it is pasted back"""
    process: Path | None = None
    """with --rotator pair: a .png or .jpg of how the turned face comes out of the noise, of the first turn"""
    json: bool = False
    """print one JSON object a picture on standard output, a line each"""
    fast: bool = False
    """trust the average calibration instead of measuring the step on the picture itself"""
    cache: bool = False
    """keep the picture's latent in ~/.cache/latentrot (it decodes into the picture; at most 32 MB, readable by you alone), so
    that the next edit with --cache of the same picture starts from it; delete the folder to forget"""
    limit: float | None = None
    """how long a step may be, in steps by which the average picture has turned nearly as far as it does; beyond the default
    a picture turns little further and resembles the person less"""
    carry: bool = True
    """take the picture's own pixels to where the walk takes the face, if the lines were calibrated so; --no-carry: show the
    walk as the model decodes it"""
    trust: float | None = None
    """how far the drawn face replaces what geometry continued where the photograph shows nothing, 0 to 1"""
    runtime: Annotated[RuntimeOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RuntimeOptions)

    def run(self) -> None:
        """Edit, write, report."""
        from latentrot.data.animation import is_animated  # noqa: PLC0415
        from latentrot.data.video import is_video  # noqa: PLC0415
        from latentrot.portrait.turns import turns_asked  # noqa: PLC0415

        turns, absolute = turns_asked(self.deg, self.to, self.sweep, self.pitch)
        self.check_process()
        if self.crop_only and self.face == "all":
            raise LatentrotError("--crop-only writes one square; choose its face with --face largest or --face NUMBER")
        self.check_rotator()
        if os.path.isdir(self.image):
            self.run_folder(turns, absolute)
        elif is_video(self.image) or is_animated(self.image):
            self.run_video(turns[0].yaw, absolute)
        else:
            self.run_picture(turns, absolute)

    def config(self, absolute: bool) -> EditConfig:
        """How faces are turned."""
        from latentrot.portrait.find import EditConfig  # noqa: PLC0415

        if self.trust is not None and not 0 <= self.trust <= 1:
            raise LatentrotError(f"--trust {self.trust}: expected between 0 and 1")
        return EditConfig(
            absolute, self.light, self.face, self.crop, self.crop_only, self.reify,
            **({} if self.trust is None else {"trust": self.trust}), device=self.runtime.device,
        )  # fmt: skip

    def run_picture(self, turns: list[Turn], absolute: bool) -> None:
        """One photograph; it is read and its face found before the model is loaded."""
        from latentrot.portrait.find import find_faces  # noqa: PLC0415
        from latentrot.portrait.results import check_out, report, write_edited  # noqa: PLC0415

        out = self.out or free_path(Path(f"{self.image.stem}-turned.png"))
        check_out(out, self.image, len(turns))
        config = self.config(absolute)
        found = find_faces(self.image, config)
        from latentrot.portrait.photograph import turn_faces  # noqa: PLC0415  brings torch, which a refusal need not wait for

        upscaler, rotator = self.upscaler(), self.load_rotator()
        edited = turn_faces(found, rotator, turns, config, upscaler)
        files = write_edited(edited, out)
        if self.process is not None:
            from latentrot.portrait.process import write_process  # noqa: PLC0415

            files = [*files, write_process(found, rotator, edited, self.process)]
        if self.json:
            print(json.dumps(report(edited, out)))
            return
        print_report(edited)
        print("wrote " + ", ".join(map(str, files)))

    def run_folder(self, turns: list[Turn], absolute: bool) -> None:
        """A folder of photographs, past those that fail."""
        from tqdm import tqdm  # noqa: PLC0415

        from latentrot.portrait.folder import check_folders, edit_folder, failure_table, list_photographs  # noqa: PLC0415
        from latentrot.portrait.photograph import edit_photograph  # noqa: PLC0415

        out = self.out or free_path(Path(f"{self.image.resolve().name}-turned"))
        check_folders(self.image, out)
        paths = list_photographs(self.image)
        config, upscaler, rotator = self.config(absolute), self.upscaler(), self.load_rotator()
        edit = partial(edit_photograph, rotator=rotator, turns=turns, config=config, upscaler=upscaler)
        outcomes = []
        for outcome in tqdm(edit_folder(paths, out, edit), desc="edit", unit="picture", total=len(paths), disable=None):
            outcomes.append(outcome)
            if self.json:
                print(json.dumps(outcome.report), flush=True)
        failed = sum(bool(o.error) for o in outcomes)
        if not self.json:
            print(f"turned {len(paths) - failed} of {len(paths)} pictures into {out}")
        if failed:
            print(failure_table(outcomes), file=sys.stderr)
            raise LatentrotError(f"{failed} of {len(paths)} pictures could not be turned")

    def run_video(self, degrees: float, absolute: bool) -> None:
        """A video or an animated picture, frame by frame."""
        from tqdm import tqdm  # noqa: PLC0415

        from latentrot.portrait.video import VideoTurner, default_out, edit_video  # noqa: PLC0415

        for option in ("sweep", "pitch", "crop", "crop_only", "reify"):
            if getattr(self, option):
                raise LatentrotError(
                    f"--{option.replace('_', '-')} is for pictures that stand still; what moves is turned by --deg or --to"
                )
        if not (self.face == "largest" or self.face.isdecimal()):
            raise LatentrotError(
                f"--face {self.face}: one face of a video is turned; give largest, or its number from 0"
            )

        def load() -> VideoTurner:
            upscaler = self.upscaler()
            return VideoTurner(self.load_rotator(), degrees, self.config(absolute), upscaler)

        report = edit_video(
            self.image, self.out or free_path(default_out(self.image)), load,
            lambda frames, video: tqdm(frames, desc="edit", unit="frame", total=video.count or None, disable=None),
        )  # fmt: skip
        if self.json:
            print(json.dumps(report))
            return
        for note in report["notes"]:
            print(f"note: {note}")
        print(f"turned {report['turned']} of {report['frames']} frames; {report['unchanged']} are unchanged")
        print(f"mean yaw before {report['yaw_before_deg']:+.1f}, after {report['yaw_after_deg']:+.1f} degrees")
        print(f"wrote {report['output']}")

    def check_process(self) -> None:
        """Refuse --process where there is none to draw."""
        if self.process is None:
            return
        if self.rotator != "pair" or not os.path.isfile(self.image):
            raise LatentrotError(
                "--process draws how a pair model turns one photograph; give --rotator pair and one picture"
            )
        if self.process.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise LatentrotError(f"--process {self.process}: expected a name ending in .png or .jpg")

    def upscaler(self) -> Upscaler | None:
        """Load the restoration network, if one was given."""
        if self.upscale is None:
            return None
        from latentrot.portrait.upscale import load_upscaler  # noqa: PLC0415

        return load_upscaler(self.upscale, self.runtime.device)

    def check_rotator(self) -> None:
        """Refuse what `load_rotator` would, before anything slow is loaded."""
        if self.identity is not None and self.rotator != "spin":
            raise LatentrotError(
                f"--identity {self.identity}: only a spin model is told who it is; give --rotator spin"
            )
        if self.rotator == "latent":
            from latentrot.diffusion.folder import local_folder  # noqa: PLC0415

            if self.limit is not None:
                check_limit(self.limit)
            if self.model is not None:
                local_folder(self.model)
            if self.directions is not None:
                direction_files(self.directions)
            return
        for option in ("model", "directions", "fast", "cache", "reify", "limit"):
            if getattr(self, option) and (option != "model" or self.rotator not in ("pair", "spin")):
                raise LatentrotError(
                    f"--{option} is for the walk in a model's latent space; leave it out with --rotator"
                )

    def load_rotator(self) -> Rotator:
        """Load what the options name."""
        if self.rotator == "spin":
            return rotator_named("spin", model=self.model, device=self.runtime.device, identity=self.identity)
        if self.rotator == "pair":
            return rotator_named("pair", model=self.model, device=self.runtime.device)
        if self.rotator == "mesh":
            return rotator_named("mesh", device=self.runtime.device)
        return self.latent_rotator() if self.rotator == "latent" else rotator_named(self.rotator)

    def latent_rotator(self) -> LatentRotator:
        """The walk in a model's latent space."""
        from latentrot.rotators.latent import load_latent_rotator  # noqa: PLC0415

        return load_latent_rotator(
            model_named(self.model, self.runtime), self.directions,
            self.runtime.device, self.runtime.dtype, measure=not self.fast, cache=self.cache,
            carry=None if self.carry else False, **({} if self.limit is None else {"limit": self.limit}),
        )  # fmt: skip


def check_limit(limit: float) -> None:
    """Refuse a longest step that is none."""
    if not 0 < limit < float("inf"):
        raise LatentrotError(f"--limit {limit}: expected above 0, such as 1.5")


def print_report(edited: Edited) -> None:
    """The report of an edit for people."""
    for note in edited.notes:
        print(f"note: {note}")
    for i, face in enumerate(edited.faces):
        turned = face.turned
        name = f"{edited.path.name}, face {i}" if len(edited.faces) > 1 else edited.path.name
        print(f"{name}: yaw {turned.yaw_deg:+.1f}, pitch {turned.pitch_deg:+.1f} degrees, light {turned.light}")
        if isfinite(turned.round_trip_psnr_db):
            print(f"the latent alone decodes to within {turned.round_trip_psnr_db:.1f} dB of the source")
        print("  turn asked   yaw before   yaw after   pitch after   light after   from the photograph")
        for k, f in enumerate(turned.frames):
            ends = f"{f.requested_deg:+10.1f} {turned.yaw_deg:+12.1f} {f.yaw_deg:+11.1f} {f.pitch_deg:+13.1f}"
            print(f"  {ends}   {f.light:11} {f'{face.carried[k]:12.0%}' if face.carried else ''}".rstrip())
        print("seconds: " + ", ".join(f"{k} {v:.2f}" for k, v in turned.seconds.items()))


@dataclass(frozen=True)
class Demo:
    """Turn a bundled public-domain portrait, or a rendered head: a strip, the turned pictures, a report."""

    out: Path = Path("demo")
    """folder"""
    heads: bool = False
    """turn a rendered head instead, which is nobody's, beside the same head truly turned"""
    model: str = "heads64"
    """with --heads: the model, which brings the head"""
    runtime: Annotated[RuntimeOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RuntimeOptions)

    def run(self) -> None:
        """A sweep and a single turn of the portrait; or all turns of the head."""
        check_writable(self.out)
        if self.heads:
            from latentrot.evaluation.example import turn_example  # noqa: PLC0415

            files = turn_example(self.model, self.out, self.runtime.device, self.runtime.dtype)
            print("wrote " + ", ".join(map(str, files)))
            return
        Edit(PORTRAIT, sweep="-30:30:7", out=self.out, runtime=self.runtime).run()
        Edit(PORTRAIT, deg=25, out=self.out / "turned.png", runtime=self.runtime).run()

"""The commands `edit` and `demo`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from latentrot.bundles import PORTRAIT
from latentrot.cli.common import (
    RuntimeOptions,
    chosen_options,
    load_chosen,
    options_from_json,
    options_given,
    rotator_options,
)
from latentrot.errors import LatentrotError
from latentrot.files import check_writable, free_path

if TYPE_CHECKING:
    from latentrot.portrait.edit_request import EditRequest
    from latentrot.portrait.follow import Follower, Motion
    from latentrot.portrait.photograph import Edited
    from latentrot.portrait.portrait import EditConfig, Portrait
    from latentrot.portrait.recipe import Recipe
    from latentrot.portrait.turns import Turn
    from latentrot.portrait.upscale import Upscaler
    from latentrot.rotators.options import RotatorOptions
    from latentrot.rotators.properties import PropertyEditor
    from latentrot.rotators.protocol import Rotator

__all__ = ["Demo", "Edit"]

#: options of all rotators in one dataclass
if TYPE_CHECKING:
    Options = Any
else:
    Options = rotator_options()


@dataclass(frozen=True)
class Edit:
    """Edit faces in a photograph, a folder or a video: rotate the head, change properties.

    Exit code 0: all images were edited; 2: at least one failed (the others are edited first).
    """

    image: Annotated[Path, tyro.conf.Positional]
    """an image, a folder of images (or of subfolders with images, one per person), or a video (.mp4, .mov, .mkv, .webm,
    .avi); an animated image (GIF, WebP, PNG) is edited frame by frame like a video"""
    deg: float | None = None
    """rotate BY this yaw, as measured on the result, degrees; > 0: nose to the viewer's right"""
    to: float | None = None
    """rotate TO this yaw, degrees"""
    set: tuple[str, ...] = ()
    """properties as NAME=VALUE: a signed value changes BY, an unsigned one TO, for example smile=+1 age=60 light=left;
    `latentrot properties` lists them. Properties are edited before the head is rotated"""
    sweep: str | None = None
    """several results, FIRST:LAST:COUNT: rotations, for example -30:30:7, or values of a property, for example
    smile=-1:1:5"""
    pitch: str | None = None
    """also change the pitch BY this many degrees (> 0: looks up), or FIRST:LAST:COUNT: each pitch with each yaw"""
    pose_of: Path | None = None
    """rotate to the yaw, pitch and roll of the largest face in this photograph"""
    follow: Path | None = None
    """driving video whose head motion is transferred: a photograph becomes a video, in a video the motion is added.
    Transfers only the change of pose since the first frame with a face"""
    rotator: str = "latent"
    """latent: walk along directions in the diffusion model's latent space, used for regions that the photograph hides; mesh:
    geometry alone, fast and at any resolution; pair: a diffusion model trained on image pairs, which refines the output of
    the geometry; spin: a multi-view diffusion model of whole heads; or a custom rotator as package.module:name"""
    edit: Path | None = None
    """repeat the edit recorded in a report (report.json, or saved output of --json) with its options; fails if the model
    or the directions differ"""
    out: Path | None = None
    """.png or .jpg: the edited image, or a strip of several results; .webp: the image, or an animation of several results;
    .gif or .mp4: an animation: several results play forwards and backwards, one alternates with the original; without
    a suffix: a folder for strip, images and report, which replaces an earlier output folder. Default: NAME-turned.png in
    the current folder, with a number if it exists. For a folder of images: another folder; one result per image is
    written as NAME.png, several to a subfolder NAME (or PERSON) with the pose in the file names, all listed in views.csv.
    For a video: .mp4; for an animated image: .gif, .webp or .mp4"""
    light: Literal["auto", "left", "center", "right"] = "auto"
    """side of the image from which the main light comes; auto: estimated"""
    face: str = "largest"
    """face to edit: largest, a number (0 is the largest face), or all"""
    crop: bool = False
    """the image is already a square crop in the CelebA frame"""
    crop_only: bool = False
    """write only the edited crop, at the model's resolution, without compositing it into the photograph"""
    reify: bool = False
    """before the rotation, move a painted or drawn face towards the model's training photographs (--deg 0: only that)"""
    upscale: Path | None = None
    """weights of a super-resolution or restoration network (.safetensors or .pth, any architecture that spandrel supports),
    applied to the generated face before it is composited"""
    process: Path | None = None
    """with --rotator pair: also write a .png or .jpg of the sampling steps of the first rotation, from noise to image"""
    also: tuple[Literal["landmarks", "camera", "depth", "normals"], ...] = ()
    """annotations to write for each result: 68 landmarks (landmarks.csv), camera of the head's mesh (cameras.json), depth
    or normals (16-bit PNG in folders of these names). The results are written as for a sweep, with views.csv"""
    crops: int | None = None
    """also write each result's face crop aligned for face recognition (five-point template), side in pixels: 112 or 224"""
    json: bool = False
    """print one line of JSON per image on standard output"""
    trust: float | None = None
    """weight of the generated face against pixels extrapolated by geometry, in regions that the photograph hides, 0 to 1"""
    light_follows: bool = False
    """rotate the light with the head; by default it stays fixed in the scene"""
    property_directions: Path | None = None
    """folder of property directions; by default that of the model"""
    options: Annotated[Options, tyro.conf.OmitArgPrefixes] = field(default_factory=Options)
    runtime: Annotated[RuntimeOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RuntimeOptions)
    recipe: Annotated[Any, tyro.conf.Suppress] = None
    """the `Recipe` of the report `edit`; not an option"""

    def run(self) -> None:
        """Edit, write the results and print the report."""
        (self if self.edit is None else self.repeated()).dispatch()

    def repeated(self) -> Edit:
        """This command with the options recorded in the report `edit`.

        Raises:
            LatentrotError: an option on the command line is one that the report records.
        """
        from latentrot.portrait.recipe import CONFIG, read_recipe  # noqa: PLC0415

        assert self.edit is not None
        recipe, default = read_recipe(self.edit), Edit(self.image)
        says = ("deg", "to", "set", "sweep", "pitch", "pose_of", "follow", "rotator", "upscale", *CONFIG, "options")
        for name in says:
            if getattr(self, name) != getattr(default, name):
                option = "the options of the rotator" if name == "options" else f"--{name.replace('_', '-')}"
                raise LatentrotError(f"--edit takes all options from the report; leave out {option}")
        return replace(
            self, recipe=recipe, rotator=recipe.rotator, options=options_from_json(type(self.options), recipe.options),
            follow=None if recipe.follow is None else Path(recipe.follow),
            upscale=None if recipe.upscale is None else Path(recipe.upscale), **recipe.config,
        )  # fmt: skip

    def recipe_with(
        self, request: EditRequest, turns: Sequence[Turn], rotator: Rotator, editor: PropertyEditor | None
    ) -> Recipe:
        """Build the recipe that the report of this edit records."""
        from latentrot.portrait.recipe import Recipe, digests_of  # noqa: PLC0415

        return Recipe.of(
            replace(request, turns=tuple(turns)), self.config(request), rotator=self.rotator,
            options=options_given(self.options),
            follow=None if self.follow is None else str(self.follow),
            upscale=None if self.upscale is None else str(self.upscale), digests=digests_of(rotator, editor),
        )  # fmt: skip

    def dispatch(self) -> None:
        """Validate the options and dispatch to photograph, folder, video or driving video."""
        from latentrot.data.animation import is_animated  # noqa: PLC0415
        from latentrot.data.video import is_video  # noqa: PLC0415

        request = self.request()
        if self.crop_only and self.face == "all":
            raise LatentrotError("--crop-only writes one square; choose its face with --face largest or --face NUMBER")
        if self.light_follows and (self.crop or self.crop_only):
            raise LatentrotError("--light-follows needs the whole photograph; leave out --crop and --crop-only")
        self.check_rotator()
        if os.path.isdir(self.image):
            if self.follow is not None:
                raise LatentrotError("--follow edits one photograph or one video; give a file, not a folder")
            self.run_folder(request)
        elif is_video(self.image) or is_animated(self.image):
            self.run_video(request)
        elif self.follow is not None:
            self.run_follow(request)
        elif self.also or self.crops is not None:
            self.run_folder(request)
        else:
            self.run_photograph(request)

    def request(self) -> EditRequest:
        """Parse the requested edit; with --pose-of or --follow its rotation is a placeholder that is replaced later."""
        from latentrot.portrait.edit_request import EditRequest, parse_edit, parse_set  # noqa: PLC0415
        from latentrot.portrait.turns import Turn  # noqa: PLC0415

        if self.recipe is not None:
            return self.recipe.request
        other = [name for name in ("pose_of", "follow") if getattr(self, name) is not None]
        if not other:
            return parse_edit(self.deg, self.to, self.sweep, self.pitch, self.set)
        given = [*other, *(name for name in ("deg", "to", "sweep", "pitch") if getattr(self, name) is not None)]
        if len(given) > 1:
            named = " and ".join("--" + name.replace("_", "-") for name in given)
            raise LatentrotError(f"{named} exclude each other: each sets the rotation; give one of them")
        posed = self.pose_of is not None
        return EditRequest((Turn(),), posed, (parse_set(self.set),), posed)

    def other(self) -> Portrait | None:
        """Read the photograph of --pose-of, if given; called before networks are loaded, so that errors come early."""
        if self.pose_of is None:
            return None
        from latentrot.portrait.pose import open_pose  # noqa: PLC0415

        return open_pose(self.pose_of, self.runtime.device)

    def turns(self, request: EditRequest, other: Portrait | None, rotator: Rotator) -> Sequence[Turn]:
        """Requested rotations; with --pose-of the pose of the other photograph, measured by the rotator's label network."""
        if other is None:
            return request.turns
        from latentrot.portrait.pose import pose_of  # noqa: PLC0415

        return (pose_of(other, rotator, self.runtime.device),)

    def config(self, request: EditRequest) -> EditConfig:
        """Build the configuration of the edit."""
        from latentrot.portrait.portrait import EditConfig  # noqa: PLC0415

        if self.trust is not None and not 0 <= self.trust <= 1:
            raise LatentrotError(f"--trust {self.trust}: expected between 0 and 1")
        return EditConfig(
            request.absolute, self.light, self.face, self.crop, self.crop_only, self.reify,
            **({} if self.trust is None else {"trust": self.trust}), light_follows=self.light_follows,
            device=self.runtime.device, whole_pose=request.whole_pose,
        )  # fmt: skip

    def run_photograph(self, request: EditRequest) -> None:
        """Edit one photograph; its faces are detected before the model is loaded, so that errors come early."""
        from latentrot.portrait.portrait import open_portrait  # noqa: PLC0415
        from latentrot.portrait.results import check_out, report, write_edited  # noqa: PLC0415

        out = self.out or free_path(Path(f"{self.image.stem}-turned.png"))
        check_out(out, self.image, request.count)
        config = self.config(request)
        portrait, other = open_portrait(self.image, config), self.other()
        from latentrot.portrait.photograph import edit_portrait  # noqa: PLC0415  imports torch: after the checks

        upscaler, (rotator, editor) = self.upscaler(), self.loaded(request)
        turns = self.turns(request, other, rotator)
        edited = edit_portrait(portrait, rotator, turns, config, upscaler, request.settings, editor)
        edited = replace(edited, recipe=self.recipe_with(request, turns, rotator, editor))
        files = write_edited(edited, out)
        if self.process is not None:
            from latentrot.portrait.process import write_process  # noqa: PLC0415

            files = [*files, write_process(portrait, rotator, edited, self.process)]
        if self.json:
            print(json.dumps(report(edited, out)))
            return
        print_report(edited)
        print("wrote " + ", ".join(map(str, files)))

    def run_folder(self, request: EditRequest) -> None:
        """Edit all photographs of a folder; continues after failures."""
        from tqdm import tqdm  # noqa: PLC0415

        from latentrot.portrait.annotations import Annotations  # noqa: PLC0415
        from latentrot.portrait.folder import (  # noqa: PLC0415
            check_folders,
            check_nested,
            edit_folder,
            failure_table,
            list_photographs,
        )
        from latentrot.portrait.photograph import edit_photograph  # noqa: PLC0415

        annotations = Annotations(self.also, self.crops)
        annotations.check()
        if annotations and (self.crop or self.crop_only):
            raise LatentrotError("--also and --crops need whole photographs; leave out --crop and --crop-only")
        one = not self.image.is_dir()
        out = self.out or free_path(Path(f"{self.image.stem if one else self.image.resolve().name}-turned"))
        check_folders(self.image, out)
        source, paths = (self.image.parent, [self.image]) if one else (self.image, list_photographs(self.image))
        check_nested(paths, source, out)
        other = self.other()
        config, upscaler, (rotator, editor) = self.config(request), self.upscaler(), self.loaded(request)
        turns = self.turns(request, other, rotator)
        recipe = self.recipe_with(request, turns, rotator, editor)
        edit = partial(
            edit_photograph, rotator=rotator, turns=turns, config=config, upscaler=upscaler,
            settings=request.settings, editor=editor,
        )  # fmt: skip
        outcomes = []
        outcomes_of = edit_folder(paths, out, lambda path: replace(edit(path), recipe=recipe), source, annotations)
        for outcome in tqdm(outcomes_of, desc="edit", unit="image", total=len(paths), disable=None):
            outcomes.append(outcome)
            if self.json:
                print(json.dumps(outcome.report), flush=True)
        failed = sum(bool(o.error) for o in outcomes)
        if not self.json:
            print(f"edited {len(paths) - failed} of {len(paths)} images; results are in {out}")
        if failed:
            print(failure_table(outcomes), file=sys.stderr)
            raise LatentrotError(f"{failed} of {len(paths)} images could not be edited")

    def run_video(self, request: EditRequest) -> None:
        """Edit a video or an animated image frame by frame."""
        from tqdm import tqdm  # noqa: PLC0415

        from latentrot.portrait.video import VideoEditor, default_out, edit_video  # noqa: PLC0415

        for option in ("sweep", "pitch", "pose_of", "crop", "crop_only", "reify", "also", "crops"):
            if getattr(self, option):
                raise LatentrotError(
                    f"--{option.replace('_', '-')} is not supported for videos and animated images; use --deg, --to or --set"
                )
        if not (self.face == "largest" or self.face.isdecimal()):
            raise LatentrotError(
                f"--face {self.face}: only one face of a video can be edited; give largest, or its number from 0"
            )

        recipes: list[Recipe] = []

        def load() -> VideoEditor:
            upscaler = self.upscaler()
            rotator, editor = self.loaded(request)
            config = self.config(request)
            recipes.append(self.recipe_with(request, request.turns, rotator, editor))
            follower = self.follower(rotator)
            return VideoEditor(rotator, request.turns[0].yaw, config, upscaler, request.settings[0], editor, follower)

        report = edit_video(
            self.image, self.out or free_path(default_out(self.image)), load,
            lambda frames, video: tqdm(frames, desc="edit", unit="frame", total=video.count or None, disable=None),
        )  # fmt: skip
        self.print_video({**report, "edit": recipes[0].as_json()})

    def follower(self, rotator: Rotator) -> Follower | None:
        """Measure the motion of the driving video, if given, and return the rotations that follow it."""
        if self.follow is None:
            return None
        from latentrot.portrait.follow import Follower  # noqa: PLC0415

        return Follower(self.motion(rotator))

    def motion(self, rotator: Rotator) -> Motion:
        """Measure the head motion in the driving video."""
        from tqdm import tqdm  # noqa: PLC0415

        from latentrot.portrait.follow import open_motion, read_motion  # noqa: PLC0415

        assert self.follow is not None
        return read_motion(
            open_motion(self.follow), rotator, self.runtime.device,
            lambda frames, video: tqdm(frames, desc="motion", unit="frame", total=video.count or None, disable=None),
        )  # fmt: skip

    def run_follow(self, request: EditRequest) -> None:
        """Animate a photograph with the head motion of the driving video."""
        from tqdm import tqdm  # noqa: PLC0415

        from latentrot.portrait.follow import LONGEST_SIDE, check_follow_out, follow_photograph, open_motion  # noqa: PLC0415
        from latentrot.portrait.portrait import open_portrait  # noqa: PLC0415

        for option in ("crop", "crop_only", "reify", "also", "crops", "process"):
            if getattr(self, option):
                raise LatentrotError(f"--{option.replace('_', '-')} is not supported with --follow; leave it out")
        if self.face == "all":
            raise LatentrotError("--face all: --follow edits only one face; give largest, or its number from 0")
        assert self.follow is not None
        out = self.out or free_path(Path(f"{self.image.stem}-turned.mp4"))
        check_follow_out(out, self.image, self.follow)
        open_motion(self.follow)
        config = self.config(request)
        portrait = open_portrait(self.image, config, LONGEST_SIDE)
        upscaler, (rotator, editor) = self.upscaler(), self.loaded(request)
        motion = self.motion(rotator)
        report = follow_photograph(
            portrait, motion, out, rotator, config, upscaler, request.settings[0], editor,
            lambda frames: tqdm(frames, desc="edit", unit="frame", total=len(motion.frames), disable=None),
        )  # fmt: skip
        self.print_video({**report, "edit": self.recipe_with(request, request.turns, rotator, editor).as_json()})

    def print_video(self, report: dict[str, Any]) -> None:
        """Print the report of a video."""
        if self.json:
            print(json.dumps(report))
            return
        for note in report["notes"]:
            print(f"note: {note}")
        print(f"edited {report['turned']} of {report['frames']} frames; {report['unchanged']} are unchanged")
        print(f"mean yaw before {report['yaw_before_deg']:+.1f}, after {report['yaw_after_deg']:+.1f} degrees")
        print(f"wrote {report['output']}")

    def upscaler(self) -> Upscaler | None:
        """Load the restoration network, if given."""
        if self.upscale is None:
            return None
        from latentrot.portrait.upscale import load_upscaler  # noqa: PLC0415

        return load_upscaler(self.upscale, self.runtime.device)

    @property
    def rotator_options(self) -> RotatorOptions | None:
        """Options with which to load the rotator; None for a custom rotator."""
        return chosen_options(self.options, [self.rotator])[self.rotator]

    def check_rotator(self) -> None:
        """Check that the rotator supports the options, before networks are loaded.

        Raises:
            LatentrotError: the rotator does not support an option.
        """
        options = self.rotator_options
        if options is not None:
            options.check()
            if self.reify and not options.reifies:
                raise LatentrotError(
                    f"--reify is not supported by the rotator {self.rotator}; leave it out, or use latent"
                )
        if self.process is None:
            return
        if (options is not None and not options.draws_process) or not os.path.isfile(self.image):
            raise LatentrotError(
                "--process draws the sampling steps of one photograph; give --rotator pair and one photograph"
            )
        if self.process.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise LatentrotError(f"--process {self.process}: expected a name ending in .png or .jpg")

    def loaded(self, request: EditRequest) -> tuple[Rotator, PropertyEditor | None]:
        """Load the rotator and the property editor; if only properties are edited, the rotator is `StillRotator`."""
        from latentrot.portrait.photograph import load_editor_for  # noqa: PLC0415
        from latentrot.portrait.properties import StillRotator  # noqa: PLC0415

        rotator = StillRotator() if request.is_still and self.follow is None else self.load_rotator()
        editor = load_editor_for(rotator, request, self.runtime.device, self.property_directions)
        if self.recipe is not None:
            from latentrot.portrait.recipe import digests_of  # noqa: PLC0415

            self.recipe.require_same(digests_of(rotator, editor))
        return rotator, editor

    def load_rotator(self) -> Rotator:
        """Load the chosen rotator with its options."""
        return load_chosen(self.rotator, self.rotator_options, self.runtime)


def property_lines(edited: Edited) -> Iterator[str]:
    """One line per property, for each setting and face: requested, before, after."""
    for variation in edited.variations:
        for report in variation.appearance.reports:
            for row in report.properties:
                wanted = f"to {row.wanted.value:g}" if row.wanted.absolute else f"by {row.wanted.value:+g}"
                yield f"{row.name} {wanted}: before {row.before:.2f}, after {row.after:.2f}"


def print_report(edited: Edited) -> None:
    """Print the report of an edit as text."""
    for note in edited.warnings:
        print(f"note: {note}")
    for words in property_lines(edited):
        print(words)
    for i, face in enumerate(edited.faces):
        turned = face.turned
        name = f"{edited.path.name}, face {i}" if len(edited.faces) > 1 else edited.path.name
        print(f"{name}: yaw {turned.yaw_deg:+.1f}, pitch {turned.pitch_deg:+.1f} degrees, light {turned.light}")
        if isfinite(turned.round_trip_psnr_db):
            print(f"PSNR of the inversion (source against its decoded latent): {turned.round_trip_psnr_db:.1f} dB")
        if any(v.appearance.reports for v in edited.variations) and not any(
            t.yaw or not t.yaw_alone for t in face.turns
        ):
            continue  # nothing was rotated
        print("   requested   yaw before   yaw after   pitch after   light after   visible in source")
        for k, f in enumerate(turned.frames):
            ends = f"{f.requested_deg:+10.1f} {turned.yaw_deg:+12.1f} {f.yaw_deg:+11.1f} {f.pitch_deg:+13.1f}"
            print(f"  {ends}   {f.light:11} {f'{face.coverage[k]:12.0%}' if face.coverage else ''}".rstrip())
    print("seconds: " + ", ".join(f"{k} {v:.2f}" for k, v in edited.turned.seconds.items()))


@dataclass(frozen=True)
class Demo:
    """Rotate a bundled public-domain portrait, or a rendered head."""

    out: Path = Path("demo")
    """output folder"""
    heads: bool = False
    """rotate a rendered head instead, and show the ground-truth rendering of each rotation for comparison"""
    model: str = "heads64"
    """with --heads: the bundled model; it includes the rendered head"""
    runtime: Annotated[RuntimeOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RuntimeOptions)

    def run(self) -> None:
        """Write a sweep and a single rotation of the portrait, or all rotations of the rendered head."""
        check_writable(self.out)
        if self.heads:
            from latentrot.evaluation.example import turn_example  # noqa: PLC0415

            files = turn_example(self.model, self.out, self.runtime.device, self.runtime.dtype)
            print("wrote " + ", ".join(map(str, files)))
            return
        Edit(PORTRAIT, sweep="-30:30:7", out=self.out, runtime=self.runtime).run()
        Edit(PORTRAIT, deg=25, out=self.out / "turned.png", runtime=self.runtime).run()

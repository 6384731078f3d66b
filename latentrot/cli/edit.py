"""Turn faces: `edit` and `demo`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from latentrot.cli.common import Where
from latentrot.errors import LatentrotError

if TYPE_CHECKING:
    from latentrot.rotate.latent import LatentRotator
    from latentrot.rotate.photograph import Edited

__all__ = ["Demo", "Edit"]


@dataclass(frozen=True)
class Edit:
    """Turn the face in a photograph, or in every photograph of a folder.

    Exit code 0: all were turned; 2: some or all were not, after everything else was done.
    """

    image: Annotated[Path, tyro.conf.Positional]
    """the picture, or a folder of pictures (subfolders are not read)"""
    deg: float | None = None
    """turn BY so many measured degrees; > 0: nose to the viewer's right"""
    to: float | None = None
    """turn TO this pose in degrees"""
    sweep: str | None = None
    """FIRST:LAST:COUNT, several turns, for example -30:30:7"""
    out: Path | None = None
    """.png or .jpg: the turned picture, or a strip of a sweep; .webp: the picture, or a sweep in motion; .gif or .mp4:
    a sweep in motion, there and back, or before and after; without a suffix: a folder for strip, turned pictures and
    report; by default NAME-turned.png in the current folder. For a folder of pictures: another folder, NAME.png each"""
    model: str | None = None
    """a diffusers folder or a Hub id; by default the bundled model"""
    directions: Path | None = None
    """folder of directions files; by default the bundled ones (with --model: directions/)"""
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
    json: bool = False
    """print one JSON object a picture on standard output, a line each"""
    fast: bool = False
    """trust the average calibration instead of measuring the step on the picture itself"""
    cache: bool = False
    """keep the picture's latent in ~/.cache/latentrot (it decodes into the picture; at most 32 MB, readable by you alone), so
    that the next edit with --cache of the same picture starts from it; delete the folder to forget"""
    where: Annotated[Where, tyro.conf.OmitArgPrefixes] = field(default_factory=Where)

    def run(self) -> None:
        """Edit, write, report."""
        degrees, absolute = self.turns()
        if self.crop_only and self.face == "all":
            raise LatentrotError("--crop-only writes one square; choose its face with --face largest or --face NUMBER")
        if os.path.isdir(self.image):
            self.run_folder(degrees, absolute)
        else:
            self.run_picture(degrees, absolute)

    def run_picture(self, degrees: list[float], absolute: bool) -> None:
        """One photograph; it is read and its face found before the model is loaded."""
        from latentrot.rotate.photograph import find_faces, turn_faces  # noqa: PLC0415
        from latentrot.rotate.results import check_out, report, write_edited  # noqa: PLC0415

        out = self.out or Path(f"{self.image.stem}-turned.png")
        check_out(out, self.image, len(degrees))
        found = find_faces(self.image, self.face, crop=self.crop)
        edited = turn_faces(
            found, self.rotator(), degrees, absolute=absolute, light=self.light, crop_only=self.crop_only,
            reified=self.reify,
        )  # fmt: skip
        files = write_edited(edited, out)
        if self.json:
            print(json.dumps(report(edited, out)))
            return
        print_report(edited)
        print("wrote " + ", ".join(map(str, files)))

    def run_folder(self, degrees: list[float], absolute: bool) -> None:
        """A folder of photographs, past those that fail."""
        from tqdm import tqdm  # noqa: PLC0415

        from latentrot.rotate.folder import check_folders, edit_folder, failure_table, list_photographs  # noqa: PLC0415
        from latentrot.rotate.photograph import edit_photograph  # noqa: PLC0415

        out = self.out or Path(f"{self.image.resolve().name}-turned")
        check_folders(self.image, out)
        paths = list_photographs(self.image)
        rotator = self.rotator()
        edit = partial(
            edit_photograph, rotator=rotator, degrees=degrees, absolute=absolute, light=self.light, face=self.face,
            crop=self.crop, crop_only=self.crop_only, reified=self.reify,
        )  # fmt: skip
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

    def turns(self) -> tuple[list[float], bool]:
        """The turns asked for, and whether they are poses to reach."""
        from latentrot.rotate.photograph import parse_sweep  # noqa: PLC0415

        given = [n for n in ("deg", "to", "sweep") if getattr(self, n) is not None]
        if len(given) != 1:
            got = " and ".join("--" + g for g in given) or "none of them"
            raise LatentrotError(f"give one of --deg, --to and --sweep; got {got}")
        if self.sweep is not None:
            return parse_sweep(self.sweep), False
        value = self.deg if self.deg is not None else self.to
        if value is None or not abs(value) <= 90:
            raise LatentrotError(f"--{given[0]} {value}: expected between -90 and 90 degrees")
        return [value], self.to is not None

    def rotator(self) -> LatentRotator:
        """Load what the options name."""
        from latentrot.rotate.latent import load_latent_rotator  # noqa: PLC0415

        directions = self.directions or (Path("directions") if self.model else None)
        return load_latent_rotator(
            self.model, directions, self.where.device, self.where.dtype, measure=not self.fast, cache=self.cache
        )


def print_report(edited: Edited) -> None:
    """The report of an edit for people."""
    for note in edited.notes:
        print(f"note: {note}")
    for i, face in enumerate(edited.faces):
        turned = face.turned
        name = f"{edited.path.name}, face {i}" if len(edited.faces) > 1 else edited.path.name
        print(f"{name}: yaw {turned.yaw_deg:+.1f}, pitch {turned.pitch_deg:+.1f} degrees, light {turned.light}")
        print(f"round trip source -> latent -> source: {turned.round_trip_psnr_db:.1f} dB")
        print("  turn asked   yaw before   yaw after   pitch after   light after")
        for f in turned.frames:
            ends = f"{f.requested_deg:+10.1f} {turned.yaw_deg:+12.1f} {f.yaw_deg:+11.1f} {f.pitch_deg:+13.1f}"
            print(f"  {ends}   {f.light}")
        print("seconds: " + ", ".join(f"{k} {v:.2f}" for k, v in turned.seconds.items()))


@dataclass(frozen=True)
class Demo:
    """Turn a bundled public-domain portrait: a strip, the turned picture, a report."""

    out: Path = Path("demo")
    """folder"""
    where: Annotated[Where, tyro.conf.OmitArgPrefixes] = field(default_factory=Where)

    def run(self) -> None:
        """A sweep and a single turn of the portrait."""
        from importlib import resources  # noqa: PLC0415

        portrait = Path(str(resources.files("latentrot") / "bundled" / "astronaut.jpg"))
        Edit(portrait, sweep="-30:30:7", out=self.out, where=self.where).run()
        Edit(portrait, deg=25, out=self.out / "turned.png", where=self.where).run()

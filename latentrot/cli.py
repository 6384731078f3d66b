"""The command line: parses, calls the library, prints. No numerics here; heavy imports happen inside the commands."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from latentrot.errors import LatentrotError, one_line

if TYPE_CHECKING:
    import torch

    from latentrot.data.celeba import FaceFolder
    from latentrot.label.light.propagate import LightFeatures
    from latentrot.rotate.latent import LatentRotator
    from latentrot.rotate.photograph import Edited

__all__ = ["main"]

Light = Literal["left", "center", "right"]


@dataclass(frozen=True)
class Where:
    """Where the networks run."""

    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda where there is one"""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """precision of the network's evaluations"""


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
        return load_latent_rotator(self.model, directions, self.where.device, self.where.dtype, measure=not self.fast)


@dataclass(frozen=True)
class Embed:
    """Embed a folder of faces: pictures -> latents; goes on where it stopped."""

    data: Path
    """CelebA folder, or any folder of aligned (178:218) or square face pictures"""
    out: Path = Path("latents")
    """the store's folder"""
    model: str | None = None
    """a diffusers folder or a Hub id; by default the bundled model"""
    steps: int | None = None
    """steps of the inversion"""
    solver: Literal["fixed-point", "ddim"] | None = None
    """how the inverse step is solved"""
    batch_size: int = 64
    """pictures at a time"""
    where: Annotated[Where, tyro.conf.OmitArgPrefixes] = field(default_factory=Where)

    def run(self) -> None:
        """Embed what the store does not hold yet."""
        from latentrot.data.celeba import FaceFolder  # noqa: PLC0415
        from latentrot.embed.model import load_model  # noqa: PLC0415
        from latentrot.embed.solve import resolve_schedule  # noqa: PLC0415
        from latentrot.embed.store import LatentStore, embed_folder  # noqa: PLC0415

        at_least("--batch-size", self.batch_size, 1)
        folder = FaceFolder(self.data)
        model = load_model(self.model, self.where.device, self.where.dtype)
        store = LatentStore(self.out)
        schedule = resolve_schedule(self.steps, self.solver, None)
        done, bad = embed_folder(folder, model, store, schedule, batch_size=self.batch_size)
        for line in bad:
            print(f"skipped: {line}", file=sys.stderr)
        print(f"embedded {done} pictures, {len(bad)} skipped; {self.out} holds {len(store.image_ids())}")


@dataclass(frozen=True)
class Label:
    """Label a folder of faces: yaw, pitch, roll and light for every picture."""

    data: Path
    """CelebA folder, or any folder of aligned (178:218) or square face pictures"""
    out: Path = Path("labels.parquet")
    """.parquet or .csv"""
    light: Path | None = None
    """take the light from this table (.csv or .parquet: image_id, light) instead of the network's"""
    batch_size: int = 256
    """pictures at a time"""
    pose: Literal["bundled", "hopenet"] = "bundled"
    """what estimates the pose"""
    weights: str | None = None
    """path or address of a published Hopenet snapshot, for --pose hopenet"""
    mirror: bool = True
    """average with the mirrored picture"""
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda where there is one"""

    def run(self) -> None:
        """Label, join attributes and identities where the folder has them, write."""
        from latentrot.data.celeba import FaceFolder  # noqa: PLC0415
        from latentrot.embed.model import resolve_device  # noqa: PLC0415
        from latentrot.label.light.tables import read_light_labels, with_light  # noqa: PLC0415
        from latentrot.label.pose import load_pose_estimator  # noqa: PLC0415
        from latentrot.label.table import label_folder, with_attributes, write_labels  # noqa: PLC0415

        at_least("--batch-size", self.batch_size, 1)
        folder, device = FaceFolder(self.data), resolve_device(self.device)
        lights = None if self.light is None else read_light_labels(self.light, image_ids=folder.ids)
        estimator = load_pose_estimator(self.pose, self.weights, device)
        table = label_folder(folder, estimator=estimator, mirror=self.mirror, device=device, batch_size=self.batch_size)
        table = table if lights is None else with_light(table, lights)
        write_labels(with_attributes(table, folder), self.out)
        counts = ", ".join(f"{n} {count}" for n, count in table["light"].value_counts().items())
        print(f"labelled {len(table)} pictures ({counts}); wrote {self.out}")


@dataclass(frozen=True)
class LabelLight:
    """Label where the light comes from: a few pictures by hand, the others by a model that learns from those.

    Without --page the model is fitted to the answers there are. With --page people answer in a browser, the most
    doubtful pictures first, and the model is fitted again after every batch.
    """

    data: Path
    """CelebA folder, or any folder of aligned (178:218) or square face pictures"""
    answers: Path = Path("light_answers.csv")
    """what people said (image_id,light,annotator,time); answers are added one by one, nothing is ever changed"""
    out: Path = Path("light.csv")
    """the light of every picture: image_id,light,confidence,source"""
    page: bool = False
    """open the page on 127.0.0.1; Ctrl-C ends it, fits once more and reports"""
    annotator: str = ""
    """the name the page starts with"""
    batch: int = 20
    """answers of one person between two fits"""
    rounds: int | None = None
    """batches each person is asked for; by default as many as there are pictures for"""
    again: float = 0.2
    """share of a batch others have answered already, to measure the agreement on (0 to 1)"""
    port: int | None = None
    """by default the first free one from 7860"""
    doubtful: int = 10
    """how many of the least certain pictures to name"""
    device: str | None = None
    """cpu, cuda or cuda:N; by default the CPU, which spends most of the time on reading the pictures"""

    def run(self) -> None:
        """Ask if wanted, fit, write, report."""
        from latentrot.data.celeba import FaceFolder  # noqa: PLC0415
        from latentrot.label.light.answers import read_answers, standing  # noqa: PLC0415
        from latentrot.label.light.propagate import folder_features  # noqa: PLC0415
        from latentrot.label.light.report import agreement_lines, answer_lines, model_lines  # noqa: PLC0415
        from latentrot.label.light.session import fit_light  # noqa: PLC0415
        from latentrot.label.light.tables import write_light_table  # noqa: PLC0415

        folder = FaceFolder(self.data)
        if not self.page:
            read_answers(self.answers)  # a mistake is told before the long part
        features = folder_features(folder, device=self.resolved_device())
        if self.page:
            self.ask(folder, features)
        said = standing(read_answers(self.answers))
        fit = fit_light(features, said)
        print("\n".join([*answer_lines(said, fit), *agreement_lines(fit.votes)]))
        write_light_table(fit.table(features), self.out)
        print("\n".join(model_lines(fit, features, folder, self.doubtful)))
        print(f"wrote {self.out}")

    def resolved_device(self) -> torch.device | None:
        """The device asked for; without one, what it takes to look for the best is not loaded."""
        if self.device is None:
            return None
        from latentrot.embed.model import resolve_device  # noqa: PLC0415

        return resolve_device(self.device)

    def ask(self, folder: FaceFolder, features: LightFeatures) -> None:
        """Serve the page until interrupted; the table is written after every fit."""
        from latentrot.label.light.answers import AnswerFile  # noqa: PLC0415
        from latentrot.label.light.page import serve  # noqa: PLC0415
        from latentrot.label.light.session import LabelSession, LightFit, SessionConfig  # noqa: PLC0415
        from latentrot.label.light.tables import write_light_table  # noqa: PLC0415

        def keep(fit: LightFit) -> None:
            if fit.learned:
                write_light_table(fit.table(features), self.out)

        config = SessionConfig(batch=self.batch, rounds=self.rounds, again=self.again)
        session = LabelSession(AnswerFile(self.answers), features, config, keep)
        try:
            serve(folder, session, annotator=self.annotator, port=self.port)
        except KeyboardInterrupt:
            print()


@dataclass(frozen=True)
class CheckLabels:
    """Measure how far the labels can be trusted, on people that training left out: report and figures."""

    celeba: Path
    """aligned CelebA with identity_CelebA.csv and pose.csv (image_id, yaw_deg, pitch_deg)"""
    yaleb: Path
    """extended Yale B with light.csv (image, azimuth_deg, elevation_deg)"""
    out: Path = Path("label-check")
    """folder for report.json and the figures"""
    pose: Literal["bundled", "hopenet"] = "bundled"
    """what estimates the pose"""
    weights: str | None = None
    """path or address of a published Hopenet snapshot, for --pose hopenet"""
    mirror: bool = True
    """average with the mirrored picture"""
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda where there is one"""

    def run(self) -> None:
        """Measure, print what was measured beside the targets, write."""
        from latentrot.embed.model import resolve_device  # noqa: PLC0415
        from latentrot.label.check import CheckConfig, check_labels, write_check  # noqa: PLC0415
        from latentrot.label.pose import load_pose_estimator  # noqa: PLC0415

        device = resolve_device(self.device)
        estimator = load_pose_estimator(self.pose, self.weights, device)
        config = CheckConfig(mirror=self.mirror)
        check = check_labels(self.celeba, self.yaleb, config, estimator=estimator, device=device)
        for name, row in check.report["targets"].items():
            print(f"{name}: {row['measured']:g} (target {row['target']}, {'met' if row['met'] else 'missed'})")
        print("wrote " + ", ".join(map(str, write_check(check, self.out))))


@dataclass(frozen=True)
class TrainLabeler:
    """Train the label network (yaw, pitch, roll, light) that comes with the package anew."""

    celeba: Path
    """aligned CelebA with identity_CelebA.csv and pose.csv (image_id, yaw_deg, pitch_deg)"""
    yaleb: Path
    """extended Yale B with light.csv (image, azimuth_deg, elevation_deg)"""
    out: Path = Path("labeler.safetensors")
    """the network's file"""
    pose_steps: int | None = None
    """optimiser steps of the pose half"""
    light_steps: int | None = None
    """optimiser steps of the light half before self-training"""
    round_steps: int | None = None
    """optimiser steps of each round of self-training"""
    seed: int | None = None
    """of everything random"""

    def run(self) -> None:
        """Train, write, print the errors on people held out."""
        from dataclasses import fields  # noqa: PLC0415

        from latentrot.label.train import LabelTrainConfig, train_labeler  # noqa: PLC0415

        names = {f.name for f in fields(LabelTrainConfig)}
        given = {n: v for n in names if (v := getattr(self, n, None)) is not None}
        for name, value in given.items():
            at_least(f"--{name.replace('_', '-')}", value, 0)
        for name, value in train_labeler(self.celeba, self.yaleb, self.out, LabelTrainConfig(**given)).items():
            print(f"{name}: {value:g}")
        print(f"wrote {self.out}")


@dataclass(frozen=True)
class FitDirections:
    """Fit the left and the right line of one light group: latents -> lines."""

    light: Light
    """side of the picture the main light comes from"""
    latents: Path = Path("latents")
    """store made by embed"""
    labels: Path = Path("labels.parquet")
    """table made by label"""
    out: Path | None = None
    """by default directions/LIGHT.safetensors"""
    where: str = ""
    """attribute filter, for example "Male == 1 and Eyeglasses == -1" """
    bins: float = 10.0
    """yaw bin width in degrees"""
    limit: float = 45.0
    """largest yaw of the bins in degrees"""
    mirror: bool = True
    """use every latent mirrored as well"""
    held_out: float = 0.1
    """share of the people left out, to measure on (0 to 1)"""
    calibrate: int = 32
    """pictures the step length is calibrated on; 0: nominal steps"""
    model: str | None = None
    """the model of the latents; by default the one named in the store"""
    seed: int = 0
    """of the choice of calibration pictures"""
    runs_on: Annotated[Where, tyro.conf.OmitArgPrefixes] = field(default_factory=Where)

    def run(self) -> None:
        """Fit, calibrate, write."""
        from tqdm import tqdm  # noqa: PLC0415

        from latentrot.embed.model import load_model  # noqa: PLC0415
        from latentrot.embed.store import LatentStore  # noqa: PLC0415
        from latentrot.fit.directions import FitConfig, fit_directions  # noqa: PLC0415
        from latentrot.label.table import read_labels  # noqa: PLC0415

        store, labels = LatentStore(self.latents), read_labels(self.labels)
        config = FitConfig(
            width=self.bins, limit=self.limit, where=self.where, mirror=self.mirror, held_out=self.held_out,
            calibrate=self.calibrate, seed=self.seed,
        )  # fmt: skip
        name = self.model or store.space.model
        model = load_model(name, self.runs_on.device, self.runs_on.dtype) if self.calibrate else None
        with tqdm(desc=f"fit {self.light}", unit="latent", disable=None) as bar:
            directions = fit_directions(store, labels, self.light, config, model=model, progress=bar.update)
        path = self.out or Path("directions") / f"{self.light}.safetensors"
        directions.save(path)
        low, high = directions.reach
        print(f"{self.light}: latents per bin {directions.facts['counts']}, reaches {low:+.0f} to {high:+.0f} degrees")
        print(f"wrote {path}")


@dataclass(frozen=True)
class Train:
    """Train a DDIM backbone from a folder of faces; goes on where it stopped, to the exact step."""

    data: Path
    """CelebA folder, or any folder of aligned (178:218) or square face pictures"""
    out: Path
    """run folder: checkpoint, log, sample sheets, model/"""
    steps: int | None = None
    """optimiser steps in all"""
    batch_size: int | None = None
    """pictures a step"""
    resolution: int | None = None
    """side of the crops in pixels"""
    small_steps: int | None = None
    """steps at the start at half the resolution"""
    channels: tuple[int, ...] | None = None
    """U-Net widths, finest level first"""
    decay: int | None = None
    """steps of the final linear decay of the rate"""
    prediction_type: Literal["v_prediction", "epsilon", "sample"] | None = None
    """what the network predicts"""
    seed: int | None = None
    """of everything random"""
    save_every: int = 500
    """steps between checkpoints"""
    device: str | None = None
    """cpu forces the CPU"""

    def run(self) -> None:
        """Train with the options given; the others come from the run's checkpoint or the defaults."""
        from dataclasses import fields, replace  # noqa: PLC0415

        from latentrot.embed.train import TrainConfig, checkpoint_config, train  # noqa: PLC0415

        at_least("--save-every", self.save_every, 1)
        checkpoint = self.out / "checkpoint.safetensors"
        base = checkpoint_config(checkpoint) if checkpoint.is_file() else TrainConfig()
        names = {f.name for f in fields(TrainConfig)}
        given = {n: v for n in names if (v := getattr(self, n, None)) is not None}
        model = train(self.data, self.out, replace(base, **given), save_every=self.save_every, device=self.device)
        print(f"wrote {model}")


@dataclass(frozen=True)
class Info:
    """Say what any artefact of ours is, from its header."""

    file: Annotated[Path, tyro.conf.Positional]
    """directions, latents, labels, label network, checkpoint, model folder, or a picture latentrot wrote"""

    def run(self) -> None:
        """Print name and value, a line each."""
        from latentrot.info import describe  # noqa: PLC0415

        for name, value in describe(self.file).items():
            print(f"{name}: {value}")


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


@dataclass(frozen=True)
class App:
    """Open a page in the browser on which a face turns as a slider is dragged."""

    host: str = "127.0.0.1"
    """address to listen on; the default is reached from this machine alone, others by whoever reaches it"""
    port: int = 7860
    """TCP port"""
    model: str | None = None
    """a diffusers folder or a Hub id; by default the bundled model"""
    directions: Path | None = None
    """folder of directions files; by default the bundled ones (with --model: directions/)"""
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda where there is one"""

    def run(self) -> None:
        """Load the model, serve until interrupted."""
        if not 1 <= self.port <= 65535:
            raise LatentrotError(f"--port {self.port}: expected 1 to 65535")
        try:
            from latentrot.app import serve  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if error.name != "gradio":
                raise
            raise LatentrotError(
                "the page needs gradio, which is not installed: pip install 'latentrot[page]'"
            ) from error
        from latentrot.rotate.latent import load_latent_rotator  # noqa: PLC0415

        directions = self.directions or (Path("directions") if self.model else None)
        rotator = load_latent_rotator(self.model, directions, self.device)
        # a service is stopped by SIGTERM: leave the way Ctrl-C does, so that what visitors gave is removed
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        serve(rotator, self.host, self.port, lambda url: print(f"latentrot is at {url} (Ctrl-C ends it)", flush=True))


COMMANDS: dict[str, Callable[..., object]] = {
    "edit": Edit,
    "embed": Embed,
    "label": Label,
    "check-labels": CheckLabels,
    "label-light": LabelLight,
    "fit-directions": FitDirections,
    "train": Train,
    "train-labeler": TrainLabeler,
    "info": Info,
    "demo": Demo,
    "app": App,
}


def at_least(option: str, value: float, least: float) -> None:
    """Refuse a number that is too small."""
    if value < least:
        raise LatentrotError(f"{option} {value}: expected at least {least}")


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


def guard_sweep(argv: list[str]) -> list[str]:
    """`--sweep -30:30:7` -> `--sweep=-30:30:7`: a value that starts with a minus sign is not an option."""
    guarded: list[str] = []
    for word in argv:
        if guarded and guarded[-1] == "--sweep" and word[:1] == "-" and word[1:2].isdigit():
            guarded[-1] = f"--sweep={word}"
        else:
            guarded.append(word)
    return guarded


def main(argv: list[str] | None = None) -> int:
    """Run a command; a user's mistake is one line on standard error and exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "PIL", "accelerate", "diffusers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    command = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, args=guard_sweep(sys.argv[1:] if argv is None else argv), prog="latentrot",
        description="Turn a face in a photograph by walking straight lines in a diffusion model's latent space.",
    )  # fmt: skip
    try:
        command.run()  # type: ignore[attr-defined]
    except LatentrotError as error:
        print("latentrot: " + one_line(error, 1000), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("latentrot: interrupted; nothing half written is left", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        reason = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
        print("latentrot: " + one_line(reason, 1000), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

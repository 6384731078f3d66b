"""The commands `label`, `label light`, `label check` and `train labeler`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from latentrot.cli.common import FrameOptions, check_folder, check_minimum, given_options
from latentrot.errors import LatentrotError
from latentrot.files import check_writable

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from latentrot.data.celeba import FaceFolder
    from latentrot.faces.light.propagate import LightFeatures
    from latentrot.training.labeler.config import LabelTrainConfig

__all__ = ["CheckLabels", "Label", "LabelLight", "TrainLabeler"]


@dataclass(frozen=True)
class Label:
    """Label a folder of aligned faces: pose, light, age, attributes."""

    data: Path
    """CelebA folder, or any folder of aligned (178:218) or square face images"""
    out: Path = Path("labels.parquet")
    """output table, .parquet or .csv"""
    light: Path | None = None
    """table of illumination classes (.csv or .parquet: image_id, light) to use instead of the network's estimates"""
    batch_size: int = 256
    """batch size"""
    pose: Literal["bundled", "hopenet"] = "bundled"
    """pose estimator"""
    weights: str | None = None
    """path or address of a published Hopenet snapshot, for --pose hopenet"""
    labeler: str | None = None
    """label network: a bundled model (faces64, heads64), a model's folder or a labeler file; by default faces64"""
    exact: bool = False
    """copy the labels from the folder's pose.csv and light.csv, such as of rendered images, instead of estimating them"""
    mirror: bool = True
    """average the estimates with those of the mirrored image"""
    frame: Annotated[FrameOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=FrameOptions)
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda if available"""

    def run(self) -> None:
        """Label the images, join the folder's attributes and identities, and write the table."""
        check_minimum("--batch-size", self.batch_size, 1)
        if self.out.suffix not in (".parquet", ".csv"):
            raise LatentrotError(f"--out {self.out}: expected a name ending in .parquet or .csv")
        check_folder(self.data)
        check_writable(self.out)
        from latentrot.data.celeba import open_folder  # noqa: PLC0415

        folder = open_folder(self.data)
        from latentrot.faces.exact import read_exact_labels  # noqa: PLC0415
        from latentrot.faces.light.tables import read_light_labels, with_light  # noqa: PLC0415
        from latentrot.faces.table import with_attributes, write_labels  # noqa: PLC0415

        lights = None if self.light is None else read_light_labels(self.light, image_ids=folder.ids)
        table = read_exact_labels(folder) if self.exact else self.estimated(folder)
        table = table if lights is None else with_light(table, lights)
        write_labels(with_attributes(table, folder), self.out)
        counts = ", ".join(f"{n} {count}" for n, count in table["light"].value_counts().items())
        print(f"labelled {len(table)} images ({counts}); wrote {self.out}")

    def estimated(self, folder: FaceFolder) -> pd.DataFrame:
        """Estimate the labels of the folder's images."""
        from latentrot.bundles import DEFAULT_BUNDLE  # noqa: PLC0415
        from latentrot.devices import resolve_device  # noqa: PLC0415
        from latentrot.faces.attributes import attributes_beside  # noqa: PLC0415
        from latentrot.faces.network import load_labeler  # noqa: PLC0415
        from latentrot.faces.pose import load_pose_estimator  # noqa: PLC0415
        from latentrot.faces.table import label_folder  # noqa: PLC0415

        device = resolve_device(self.device)
        self.frame.check([folder], self.device)
        labeler = load_labeler(self.labeler, device)
        return label_folder(
            folder,
            estimator=load_pose_estimator(self.pose, self.weights, device, labeler=labeler),
            labeler=labeler,
            attributes=attributes_beside(self.labeler or DEFAULT_BUNDLE, device),
            mirror=self.mirror,
            device=device,
            batch_size=self.batch_size,
        )


@dataclass(frozen=True)
class LabelLight:
    """Label the light: some images by hand, the others by a model fitted to the hand labels.

    Without --page the model is fitted to the existing answers. With --page you answer in the browser, the most uncertain
    images first, and the model is fitted again after every batch.
    """

    data: Path
    """CelebA folder, or any folder of aligned (178:218) or square face images"""
    answers: Path = Path("light_answers.csv")
    """file of the answers (image_id,light,annotator,time); rows are only appended"""
    out: Path = Path("light.csv")
    """output table with the light of every image: image_id,light,confidence,source"""
    page: bool = False
    """open the labelling page on 127.0.0.1; Ctrl-C stops it, fits the model and prints the report"""
    annotator: str = ""
    """name of the annotator, prefilled on the page"""
    batch: int = 20
    """number of answers of one annotator between fits"""
    rounds: int | None = None
    """number of batches per annotator; by default until all images are labelled"""
    again: float = 0.2
    """share of a batch that other annotators have already answered, to measure agreement (0 to 1)"""
    port: int | None = None
    """port of the page; by default the first free one from 7860"""
    doubtful: int = 10
    """number of uncertain images to list"""
    labeler: str | None = None
    """label network: a bundled model (faces64, heads64), a model's folder or a labeler file; by default faces64"""
    device: str | None = None
    """cpu, cuda or cuda:N; by default the CPU, where reading images dominates"""
    frame: Annotated[FrameOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=FrameOptions)

    def run(self) -> None:
        """Serve the page if requested, fit the model, write the table and print the report."""
        if self.out.suffix != ".csv":
            raise LatentrotError(f"--out {self.out}: expected a name ending in .csv")
        check_folder(self.data)
        for path in (self.out, self.answers):
            check_writable(path)
        from latentrot.data.celeba import open_folder  # noqa: PLC0415
        from latentrot.faces.light.answers import read_answers, standing, to_same_images  # noqa: PLC0415
        from latentrot.faces.light.propagate import folder_features  # noqa: PLC0415
        from latentrot.faces.light.report import agreement_lines, answer_lines, model_lines  # noqa: PLC0415
        from latentrot.faces.light.session import fit_light  # noqa: PLC0415
        from latentrot.faces.light.tables import write_light_table  # noqa: PLC0415
        from latentrot.faces.network import load_labeler  # noqa: PLC0415

        folder = open_folder(self.data)
        if not self.page:
            read_answers(self.answers)  # fail before the slow part
        self.frame.check([folder], self.device)
        device = self.resolved_device()
        features = folder_features(folder, labeler=load_labeler(self.labeler, device), device=device)
        if self.page:
            self.ask(folder, features)
        said = standing(to_same_images(read_answers(self.answers), features.digests))
        fit = fit_light(features, said)
        print("\n".join([*answer_lines(said, fit), *agreement_lines(fit.votes)]))
        write_light_table(fit.table(features), self.out)
        print("\n".join(model_lines(fit, features, folder, self.doubtful)))
        print(f"wrote {self.out}")

    def resolved_device(self) -> torch.device | None:
        """The given device; None (the CPU) without --device, so that torch is not imported."""
        if self.device is None:
            return None
        from latentrot.devices import resolve_device  # noqa: PLC0415

        return resolve_device(self.device)

    def ask(self, folder: FaceFolder, features: LightFeatures) -> None:
        """Serve the page until interrupted; writes the table after every fit."""
        from latentrot.faces.light.answers import AnswerFile  # noqa: PLC0415
        from latentrot.faces.light.page import serve_label_page  # noqa: PLC0415
        from latentrot.faces.light.session import LabelSession, LightFit, SessionConfig  # noqa: PLC0415
        from latentrot.faces.light.tables import write_light_table  # noqa: PLC0415

        def keep(fit: LightFit) -> None:
            if fit.learned:
                write_light_table(fit.table(features), self.out)

        config = SessionConfig(batch=self.batch, rounds=self.rounds, again=self.again)
        session = LabelSession(AnswerFile(self.answers), features, config, keep)
        try:
            serve_label_page(folder, session, annotator=self.annotator, port=self.port)
        except KeyboardInterrupt:
            print()


@dataclass(frozen=True)
class CheckLabels:
    """Measure the accuracy of the labels on held-out people; write a report and figures."""

    celeba: Path
    """aligned CelebA with identity_CelebA.csv and pose.csv (image_id, yaw_deg, pitch_deg)"""
    yaleb: Path
    """extended Yale B with light.csv (image, azimuth_deg, elevation_deg)"""
    out: Path = Path("label-check")
    """output folder for report.json and the figures"""
    pose: Literal["bundled", "hopenet"] = "bundled"
    """pose estimator"""
    weights: str | None = None
    """path or address of a published Hopenet snapshot, for --pose hopenet"""
    labeler: str | None = None
    """label network: a bundled model (faces64, heads64), a model's folder or a labeler file; by default faces64"""
    mirror: bool = True
    """average the estimates with those of the mirrored image"""
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda if available"""
    frame: Annotated[FrameOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=FrameOptions)

    def run(self) -> None:
        """Measure, print measured and target values, and write the report."""
        check_folder(self.celeba)
        check_folder(self.yaleb, "the extended Yale B images with light.csv")
        check_writable(self.out)
        self.frame.check([self.celeba], self.device)
        from latentrot.devices import resolve_device  # noqa: PLC0415
        from latentrot.evaluation.label_check import CheckConfig, check_labels, write_check  # noqa: PLC0415
        from latentrot.faces.network import load_labeler  # noqa: PLC0415
        from latentrot.faces.pose import load_pose_estimator  # noqa: PLC0415

        device = resolve_device(self.device)
        labeler = load_labeler(self.labeler, device)
        estimator = load_pose_estimator(self.pose, self.weights, device, labeler=labeler)
        config = CheckConfig(mirror=self.mirror)
        check = check_labels(self.celeba, self.yaleb, config, estimator=estimator, labeler=labeler, device=device)
        for name, row in check.report["targets"].items():
            print(f"{name}: {row['measured']:g} (target {row['target']}, {'met' if row['met'] else 'missed'})")
        print("wrote " + ", ".join(map(str, write_check(check, self.out))))


@dataclass(frozen=True)
class TrainLabeler:
    """Train a label network (yaw, pitch, roll, light): on photographs, like the bundled one, or on rendered heads."""

    celeba: Path | None = None
    """aligned CelebA with identity_CelebA.csv and pose.csv (image_id, yaw_deg, pitch_deg); needs --yaleb"""
    yaleb: Path | None = None
    """extended Yale B with light.csv (image, azimuth_deg, elevation_deg); needs --celeba"""
    heads: Path | None = None
    """alternatively: images with exact labels (pose.csv, light.csv, identity_CelebA.csv), written by heads make"""
    out: Path = Path("labeler.safetensors")
    """output file of the network"""
    pose_steps: int | None = None
    """optimiser steps of the pose trunk"""
    light_steps: int | None = None
    """optimiser steps of the light trunk before self-training"""
    round_steps: int | None = None
    """optimiser steps of each round of self-training"""
    seed: int | None = None
    """seed of all randomness"""
    frame: Annotated[FrameOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=FrameOptions)

    def run(self) -> None:
        """Train and write the network, and print its errors on held-out people."""
        check_writable(self.out)
        from latentrot.training.labeler.config import LabelTrainConfig  # noqa: PLC0415

        given = given_options(self, LabelTrainConfig)
        for name, value in given.items():
            least = 1 if self.heads is not None and name.endswith("_steps") else 0
            check_minimum(f"--{name.replace('_', '-')}", value, least)
        self.frame.check([folder for folder in (self.celeba, self.heads) if folder is not None])
        for name, value in self.train(LabelTrainConfig(**given)).items():
            print(f"{name}: {value:g}")
        print(f"wrote {self.out}")

    def train(self, config: LabelTrainConfig) -> dict[str, float]:
        """Train on the given data; returns the errors on held-out people or heads."""
        from latentrot.training.labeler.exact import train_exact_labeler  # noqa: PLC0415
        from latentrot.training.labeler.labeler import train_labeler  # noqa: PLC0415

        if self.heads is not None and self.celeba is None and self.yaleb is None:
            return train_exact_labeler(self.heads, self.out, config)
        if self.heads is None and self.celeba is not None and self.yaleb is not None:
            return train_labeler(self.celeba, self.yaleb, self.out, config)
        given = [f"--{n}" for n in ("celeba", "yaleb", "heads") if getattr(self, n) is not None]
        raise LatentrotError(
            f"give --celeba and --yaleb, or --heads alone; got {' and '.join(given) or 'none of them'}"
        )

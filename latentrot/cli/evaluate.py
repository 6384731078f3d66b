"""How well a rotator turns heads: `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from latentrot.cli.common import Where, at_least, check_folder, rotator_named
from latentrot.errors import LatentrotError
from latentrot.files import check_writable

if TYPE_CHECKING:
    from latentrot.rotate.protocol import Rotator

__all__ = ["Evaluate"]


@dataclass(frozen=True)
class Evaluate:
    """Measure a rotator on rendered heads whose true turned pictures are known, beside doing nothing and mirroring."""

    data: Path
    """folder of views, made by: latentrot heads make --views"""
    out: Path = Path("evaluation")
    """folder for evaluation.json, .csv, .png and examples.png"""
    rotator: str = "latent"
    """latent, nothing, mirror, or one of your own as package.module:name"""
    model: str | None = None
    """a diffusers folder, a Hub id or a bundled model (faces64, heads64); by default faces64"""
    directions: Path | None = None
    """folder of directions files; by default those in the model's own folder, else directions/"""
    labeler: str | None = None
    """whose label network measures: a bundled model, a model's folder or a file; by default the one of --model"""
    heads: int | None = None
    """how many heads; by default all"""
    source_yaw: float = 0.0
    """pose of the pictures that are turned, degrees"""
    targets: tuple[float, ...] | None = None
    """poses to turn to, degrees; by default -45 to 45 in steps of 15"""
    fast: bool = False
    """trust the average calibration instead of measuring the step on every picture itself (latent)"""
    where: Annotated[Where, tyro.conf.OmitArgPrefixes] = field(default_factory=Where)

    def run(self) -> None:
        """Turn, measure, write, print the means."""
        check_folder(self.data)
        check_writable(self.out)
        from tqdm import tqdm  # noqa: PLC0415

        from latentrot.devices import resolve_device  # noqa: PLC0415
        from latentrot.edit.results import make_folder  # noqa: PLC0415
        from latentrot.evaluation.report import summary, text_table, write_evaluation  # noqa: PLC0415
        from latentrot.evaluation.run import evaluate  # noqa: PLC0415
        from latentrot.evaluation.truth import EvaluationConfig  # noqa: PLC0415
        from latentrot.evaluation.views import read_views  # noqa: PLC0415
        from latentrot.label.network import load_labeler  # noqa: PLC0415

        if self.heads is not None:
            at_least("--heads", self.heads, 1)
        views = read_views(self.data)
        targets = {} if self.targets is None else {"targets": self.targets}
        config = EvaluationConfig(source_yaw=self.source_yaw, heads=self.heads, **targets)
        rotator, facts = self.loaded()
        # a rotator without a model of its own is measured by the label network of the model named
        network = self.labeler or (None if self.rotator == "latent" else self.model)
        labeler = load_labeler(network, resolve_device(self.where.device)) if network else None
        make_folder(self.out)
        with tqdm(total=self.heads or len(views.heads), desc="evaluate", unit="head", disable=None) as bar:
            evaluation = evaluate(
                rotator, views, config, name=self.rotator, labeler=labeler, facts=facts, progress=bar.update
            )
        report = summary(evaluation)
        files = write_evaluation(evaluation, report, self.out)
        print(text_table(report))
        print("wrote " + ", ".join(map(str, files)))

    def loaded(self) -> tuple[Rotator, dict[str, str]]:
        """The rotator, and what the report says of it."""
        from latentrot.rotate.latent.rotator import load_latent_rotator  # noqa: PLC0415

        if self.rotator != "latent":
            if self.directions is not None:
                raise LatentrotError(f"--directions {self.directions} belong to --rotator latent, not {self.rotator}")
            return rotator_named(self.rotator, self.where.device), {}
        latent = load_latent_rotator(
            self.model, self.directions, self.where.device, self.where.dtype, measure=not self.fast
        )
        step = "average calibration" if self.fast else "measured on every picture"
        return latent, {"model": latent.model.name, "digest": latent.model.digest, "step": step}

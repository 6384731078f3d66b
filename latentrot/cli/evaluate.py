"""How well rotators turn heads: `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from latentrot.cli.common import RuntimeOptions, at_least, check_folder, model_named, rotator_named
from latentrot.errors import LatentrotError
from latentrot.files import check_writable

if TYPE_CHECKING:
    from latentrot.evaluation.judges import Judge
    from latentrot.evaluation.pairs import EvaluationConfig
    from latentrot.rotators.protocol import Rotator

__all__ = ["Evaluate"]


@dataclass(frozen=True)
class Evaluate:
    """Measure rotators where the true turned pictures are known, beside doing nothing and mirroring.

    Of rendered heads every other view is the truth; of real people another frame of the same clip is, and only people are
    measured whom no training of the package has used.
    """

    data: Path
    """folder of photographs with clip.csv and pose.csv, or of views, made by: latentrot heads make --views"""
    out: Path = Path("evaluation")
    """folder for evaluation.json, .csv, .md, .png and examples.png"""
    rotator: tuple[str, ...] = ("latent",)
    """one or several: latent, mesh, pair, spin, nothing, mirror, or of your own as package.module:name"""
    model: str | None = None
    """a diffusers folder, a Hub id or a bundled model (faces64, heads64); by default faces64. With --rotator pair
    or spin and not latent: a folder that train-pair or train-spin wrote"""
    directions: Path | None = None
    """folder of directions files; by default those in the model's own folder, else directions/"""
    labeler: str | None = None
    """whose label network measures: a bundled model, a model's folder or a file; by default the one of --model"""
    identity: Path | None = None
    """weights of facenet-pytorch's InceptionResnetV1 (20180402-114759-vggface2.pt), which you have: how much of the person
    stays. A spin model that was trained with these weights is told who it is by them, which flatters it"""
    judge: Path | None = None
    """a Python file of yours with pose(images), identity(images) or both, which measures too; it is run"""
    people: int | None = None
    """how many people or heads are turned; by default all"""
    protocol: Literal["turns", "views"] = "turns"
    """turns: to the poses of --targets; views: rendered heads to all other views of their set, with the columns that
    multi-view papers publish"""
    source_yaw: float = 0.0
    """rendered heads: pose of the pictures that are turned, degrees"""
    targets: tuple[float, ...] | None = None
    """rendered heads: poses to turn to, degrees; by default -45 to 45 in steps of 15"""
    everybody: bool = False
    """photographs: everybody in the folder, not only the tenth held out; for rotators that did not learn from it"""
    data_set: str | None = None
    """photographs: what the set is called in the cards of models; by default the folder's name"""
    per_person: int = 2
    """photographs: turns of each person and bin of 15 degrees at most"""
    fast: bool = False
    """trust the average calibration instead of measuring the step on every picture itself (latent)"""
    runtime: Annotated[RuntimeOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RuntimeOptions)

    def run(self) -> None:
        """Turn, measure, write, print the table."""
        check_folder(self.data)
        check_writable(self.out)
        at_least("--people", 1 if self.people is None else self.people, 1)
        at_least("--per-person", self.per_person, 1)
        from tqdm import tqdm  # noqa: PLC0415

        from latentrot.devices import resolve_device  # noqa: PLC0415
        from latentrot.evaluation.people import require_strangers  # noqa: PLC0415
        from latentrot.evaluation.report import markdown_table, protocol_table, summary, write_evaluation  # noqa: PLC0415
        from latentrot.evaluation.run import evaluate, read_pairs  # noqa: PLC0415
        from latentrot.faces.network import load_labeler  # noqa: PLC0415
        from latentrot.portrait.results import make_folder  # noqa: PLC0415

        config = self.config()
        judge = self.judges()
        pairs = read_pairs(self.data, config)
        rotators, provenance = self.loaded()
        require_strangers(rotators, self.data, config)
        # rotators without a model of their own are measured by the label network of the model named
        network = self.labeler or (
            None if self.rotator == ("latent",) or self.own_model("pair", "spin") else self.model
        )
        labeler = load_labeler(network, resolve_device(self.runtime.device)) if network else None
        make_folder(self.out)
        with tqdm(total=pairs.table["source"].nunique(), desc="evaluate", unit="picture", disable=None) as bar:
            evaluation = evaluate(
                rotators, pairs, config, labeler=labeler, judge=judge, provenance=provenance, progress=bar.update
            )
        report = summary(evaluation)
        files = write_evaluation(evaluation, report, self.out)
        print(markdown_table(report))
        if self.protocol == "views":
            print("\n" + protocol_table(report))
        print("wrote " + ", ".join(map(str, files)))

    def config(self) -> EvaluationConfig:
        """What is asked for."""
        from latentrot.evaluation.pairs import EvaluationConfig  # noqa: PLC0415

        if self.protocol == "views" and self.targets is not None:
            raise LatentrotError("--targets choose among the views; --protocol views turns to all of them")
        targets = EvaluationConfig.targets if self.targets is None else self.targets
        return EvaluationConfig(
            people=self.people, source_yaw=self.source_yaw, everybody=self.everybody, data_set=self.data_set,
            per_person=self.per_person, targets=None if self.protocol == "views" else targets,
        )  # fmt: skip

    def judges(self) -> Judge | None:
        """The networks of the user's that measure, too."""
        from latentrot.evaluation.judges import judge_of, load_judge  # noqa: PLC0415
        from latentrot.faces.identity import load_identity  # noqa: PLC0415

        judge = load_judge(self.judge) if self.judge else None
        return judge_of(judge, load_identity(self.identity, self.runtime.device) if self.identity else None)

    def own_model(self, *names: str) -> str | None:
        """--model, where it is one of these rotators': beside the latent one it is that one's, beside both the first's."""
        theirs = next((name for name in self.rotator if name in ("latent", "pair", "spin")), None)
        theirs = "latent" if "latent" in self.rotator else theirs
        return self.model if theirs in names else None

    def loaded(self) -> tuple[dict[str, Rotator], dict[str, str]]:
        """The rotators by name, and what the report says of them."""
        device: dict[str, object] = {"device": self.runtime.device}
        options: dict[str, dict[str, object]] = {"mesh": device}
        options |= {name: {"model": self.own_model(name), **device} for name in ("pair", "spin")}
        if "spin" in self.rotator and self.identity is not None:
            from latentrot.rotators.spin.model import takes_identity  # noqa: PLC0415

            options["spin"]["identity"] = self.identity if takes_identity(self.own_model("spin")) else None
        if "latent" not in self.rotator:
            if self.directions is not None:
                raise LatentrotError(
                    f"--directions {self.directions} belong to --rotator latent, not {self.rotator[0]}"
                )
            return {name: rotator_named(name, **options.get(name, {})) for name in self.rotator}, {}
        from latentrot.rotators.latent import load_latent_rotator  # noqa: PLC0415

        latent = load_latent_rotator(
            model_named(self.model, self.runtime),
            self.directions,
            self.runtime.device,
            self.runtime.dtype,
            measure=not self.fast,
        )
        step = "average calibration" if self.fast else "measured on every picture"
        rotators = {
            name: latent if name == "latent" else rotator_named(name, **options.get(name, {})) for name in self.rotator
        }
        return rotators, {"model": latent.model.name, "digest": latent.model.digest, "step": step}

"""The command `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from latentrot.cli.common import (
    FrameOptions,
    RuntimeOptions,
    check_folder,
    check_minimum,
    chosen_options,
    load_chosen,
    rotator_options,
)
from latentrot.errors import LatentrotError
from latentrot.files import check_writable
from latentrot.rotators.protocol import capabilities_of

if TYPE_CHECKING:
    from latentrot.evaluation.judges import Judge
    from latentrot.evaluation.pairs import EvaluationConfig
    from latentrot.rotators.protocol import Rotator

__all__ = ["Evaluate"]

#: options of all rotators, except for the identity network, which is an option of the evaluation
if TYPE_CHECKING:
    Options = Any
else:
    Options = rotator_options(without=("identity",))


@dataclass(frozen=True)
class Evaluate:
    """Measure rotators against ground truth.

    The ground truth is another view of a rendered head, or another frame of the same clip of a real person. By default only
    people who were held out of all trainings of the package are measured.
    """

    data: Path
    """folder of photographs with clip.csv and pose.csv, or of views, made by: latentrot heads make --views"""
    out: Path = Path("evaluation")
    """folder for evaluation.json, .csv, .md, .png and examples.png"""
    rotator: tuple[str, ...] = ("latent",)
    """one or several rotators: latent, mesh, pair, spin, nothing, mirror, or your own as package.module:name"""
    labeler: str | None = None
    """label network for the measurement: a bundled model, a model's folder or a file; by default the one of --model"""
    identity: Path | None = None
    """your weights of facenet-pytorch's InceptionResnetV1 (20180402-114759-vggface2.pt), for measuring the identity. A
    spin model trained with these weights uses them as its identity condition, which favours it"""
    judge: Path | None = None
    """Python file with pose(images), identity(images) or both, for further measurements; it is executed"""
    people: int | None = None
    """number of people or heads to rotate; by default all"""
    protocol: Literal["turns", "views"] = "turns"
    """turns: rotate to the yaws in --targets; views: rotate rendered heads to all other views of their set, and report the
    measures that multi-view papers publish"""
    source_yaw: float = 0.0
    """rendered heads: yaw of the source images, degrees"""
    targets: tuple[float, ...] | None = None
    """rendered heads: target yaws, degrees; by default -45 to 45 in steps of 15"""
    everybody: bool = False
    """photographs: measure all people, not only held-out ones; for rotators that were not trained on the data set"""
    data_set: str | None = None
    """photographs: name of the data set in model cards; by default the name of the folder"""
    per_person: int = 2
    """photographs: max number of pairs per person and bin of 15 degrees"""
    frame: Annotated[FrameOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=FrameOptions)
    options: Annotated[Options, tyro.conf.OmitArgPrefixes] = field(default_factory=Options)
    runtime: Annotated[RuntimeOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RuntimeOptions)

    def run(self) -> None:
        """Rotate, measure, write the results and print the table."""
        check_folder(self.data)
        check_writable(self.out)
        check_minimum("--people", 1 if self.people is None else self.people, 1)
        check_minimum("--per-person", self.per_person, 1)
        from tqdm import tqdm  # noqa: PLC0415

        from latentrot.devices import resolve_device  # noqa: PLC0415
        from latentrot.evaluation.people import require_held_out  # noqa: PLC0415
        from latentrot.evaluation.report import markdown_table, protocol_table, summary, write_evaluation  # noqa: PLC0415
        from latentrot.evaluation.run import evaluate, read_pairs  # noqa: PLC0415
        from latentrot.faces.network import load_labeler  # noqa: PLC0415
        from latentrot.files import create_folder  # noqa: PLC0415

        config = self.config()
        judge = self.judges()
        pairs = read_pairs(self.data, config)
        rotators, provenance = self.loaded()
        require_held_out(rotators, self.data, config)
        self.frame.check([self.data], self.runtime.device)
        labeler = load_labeler(self.labeler, resolve_device(self.runtime.device)) if self.labeler else None
        # rotators without a label network are measured by that of the first rotator with one
        labeler = labeler or next(filter(None, (capabilities_of(r).label_network for r in rotators.values())), None)
        create_folder(self.out)
        with tqdm(total=pairs.table["source"].nunique(), desc="evaluate", unit="image", disable=None) as bar:
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
        """The configuration of the evaluation."""
        from latentrot.evaluation.pairs import EvaluationConfig  # noqa: PLC0415

        if self.protocol == "views" and self.targets is not None:
            raise LatentrotError("--targets and --protocol views, which uses all views, exclude each other")
        targets = EvaluationConfig.targets if self.targets is None else self.targets
        return EvaluationConfig(
            people=self.people, source_yaw=self.source_yaw, everybody=self.everybody, data_set=self.data_set,
            per_person=self.per_person, targets=None if self.protocol == "views" else targets,
        )  # fmt: skip

    def judges(self) -> Judge | None:
        """The user's networks for measurements."""
        from latentrot.evaluation.judges import judge_of, load_judge  # noqa: PLC0415
        from latentrot.faces.identity import load_identity  # noqa: PLC0415

        judge = load_judge(self.judge) if self.judge else None
        return judge_of(judge, load_identity(self.identity, self.runtime.device) if self.identity else None)

    def loaded(self) -> tuple[dict[str, Rotator], dict[str, str]]:
        """The rotators by name, and the provenance of the first one with a model."""
        options = chosen_options(self.options, self.rotator)
        rotators: dict[str, Rotator] = {}
        for name, made_by in options.items():
            if made_by is not None:
                made_by.check()
            known = None if made_by is None else made_by.with_identity(self.identity)
            rotators[name] = load_chosen(name, known, self.runtime)
        return rotators, next(filter(None, (dict(capabilities_of(r).provenance) for r in rotators.values())), {})

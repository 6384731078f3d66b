"""Rotate the rendered example of a model and compare with the ground truth."""

from __future__ import annotations

import json
from pathlib import Path

from latentrot.bundles import bundle_names, example_in
from latentrot.data.images import write_image
from latentrot.errors import LatentrotError
from latentrot.evaluation.pairs import EvaluationConfig
from latentrot.evaluation.report import examples
from latentrot.evaluation.run import TRUTH, Evaluation, evaluate
from latentrot.files import create_folder, write_atomically
from latentrot.output import write_output_folder
from latentrot.portrait.results import synthetic_metadata
from latentrot.rotators.latent.rotator import LatentRotator, load_latent_rotator

__all__ = ["turn_example"]

NAME = "turned"


def turn_example(model: str, out: Path, device: str | None = None, dtype: str | None = None) -> list[Path]:
    """Rotate the rendered example in a model's folder and write it beside the ground truth.

    Args:
        model: a bundled model, a model's folder or a Hub id, with views of at least one head in `example/`.
        out: folder for strip.png (source and true images above the rotated ones) and report.json.
        device: torch device.
        dtype: precision of the network evaluations.

    Returns:
        The files written.

    Raises:
        LatentrotError: the model does not exist, or has no example.
    """
    rotator = load_latent_rotator(model, device=device, dtype=dtype)
    folder = example_in(rotator.model.folder)
    if folder is None:
        raise LatentrotError(
            f"the model {model} has no example (example/views.csv is missing); bundled models: {', '.join(bundle_names())}"
        )
    create_folder(out)
    evaluation = evaluate({NAME: rotator}, folder, EvaluationConfig(people=1))
    report = example_report(evaluation, rotator)
    metadata = synthetic_metadata(
        {"model": rotator.model.name, "asked_deg": [f["requested_deg"] for f in report["frames"]]}
    )

    def write() -> list[Path]:
        write_image(out / "strip.png", examples(evaluation, 1), metadata)
        write_atomically(out / "report.json", lambda p: p.write_text(json.dumps(report, indent=2) + "\n"))
        return [out / "strip.png", out / "report.json"]

    return write_output_folder(out, write)


def example_report(evaluation: Evaluation, rotator: LatentRotator) -> dict:
    """Measures for each rotation of the first head, the true image and the baseline `nothing`."""
    tables = {way: rows.set_index("requested_deg") for way, rows in evaluation.rows.groupby("way")}
    own = tables[NAME]
    yaw_of_truth = tables[TRUTH]["yaw_deg"].reindex(own.index)
    error_of_nothing = tables["nothing"]["squared_error"].reindex(own.index)
    frames = [
        {
            "requested_deg": turn,
            "true_yaw_deg": row["true_yaw_deg"],
            "yaw_deg": round(row["yaw_deg"], 2),
            "yaw_of_true_picture_deg": round(yaw, 2),
            "squared_error": round(row["squared_error"], 5),
            "squared_error_of_doing_nothing": round(error, 5),
            "ssim": round(row["ssim"], 4),
        }
        for (turn, row), yaw, error in zip(own.iterrows(), yaw_of_truth, error_of_nothing, strict=True)
    ]
    return {
        "model": rotator.model.name,
        "labeler": evaluation.labeler,
        "source_yaw_deg": evaluation.config.source_yaw,
        "light": str(evaluation.pairs.lights[0]),
        "frames": frames,
    }

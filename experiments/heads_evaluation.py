"""Evaluate heads64 on unseen rendered heads, as `latentrot evaluate` does, and store table, figure and images.

    python experiments/heads_evaluation.py

Rotates a hundred unseen heads (see rendered.py) and compares them with their true views, next to the baselines `nothing` and
`mirror`. Writes heads_evaluation.csv (one row per rotator and rotation), heads_evaluation.png and heads_strips.png (true
views above results, one head per illumination class) beside this script, and the full report to runs/rendered/evaluation.
The equivalent commands are:

    latentrot heads make --views --same-light --count 300 --seed 1000000 --yaws=-45:45:15 --maps --out views
    latentrot evaluate --data views --model heads64 --people 100
"""

from __future__ import annotations

import pandas as pd
import tyro
from rendered import HERE, WORK, Rendered
from tqdm import tqdm

from latentrot.data.images import write_image
from latentrot.evaluation.pairs import EvaluationConfig
from latentrot.evaluation.report import evaluation_figure, examples, markdown_table, summary, write_evaluation
from latentrot.evaluation.run import evaluate, read_pairs
from latentrot.files import create_folder
from latentrot.portrait.results import synthetic_metadata


def rows_of(report: dict) -> pd.DataFrame:
    """One row per rotator and requested rotation: means and the ends of their 95% intervals."""
    rows = []
    for way, cells in report["ways"].items():
        for turn, cell in cells["by_turn"].items():
            row = {"way": way, "requested_deg": float(turn), "heads": cell["ssim"]["people"]}
            for name, ends in cell.items():
                row |= {name: ends["mean"], f"{name}_low": ends["low"], f"{name}_high": ends["high"]}
            rows.append(row)
    return pd.DataFrame(rows)


def main(rendered: Rendered) -> None:
    """Rotate, measure, and write the results."""
    with tqdm(total=rendered.tested, desc="evaluate", unit="head", disable=None) as bar:
        config = EvaluationConfig(people=rendered.tested)
        evaluation = evaluate(
            {"latent": rendered.rotator},
            read_pairs(rendered.truth.root, config),
            config,
            provenance={
                "model": rendered.model.name,
                "digest": rendered.model.digest,
                "step": "measured on every picture",
            },
            progress=bar.update,
        )
    report = summary(evaluation)
    create_folder(WORK / "evaluation")
    write_evaluation(evaluation, report, WORK / "evaluation")
    rows_of(report).round(5).to_csv(HERE / "heads_evaluation.csv", index=False)
    title = f"heads64 on {rendered.tested} heads never seen: means with 95% intervals"
    evaluation_figure(report, title).savefig(HERE / "heads_evaluation.png", dpi=70)
    write_image(HERE / "heads_strips.png", examples(evaluation, side=96), synthetic_metadata({"model": "heads64"}))
    print(markdown_table(report))


if __name__ == "__main__":
    main(tyro.cli(Rendered, default=Rendered(tested=100), description=__doc__))

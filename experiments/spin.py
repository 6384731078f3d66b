"""Evaluate the multi-view model on unseen heads: published measures, ablations, consistency, time, contact sheets.

    python experiments/spin.py --people 100

Heads are rendered with a seed for testing (`latentrot.synthetic.sample.TEST_SEED`). Writes beside this script

- spin.csv: all rotators, from one frontal view to ten others of the same head: squared error, SSIM, LPIPS if its weights are
  installed, identity (cosine to the true view by the judge in ../shared/judge, else by the model's person network), seconds
  per view. `geometry`: the condition of the multi-view model alone. Ablations of the multi-view model: models
  trained without a condition (`--trained`), other numbers of steps. Views from behind are measured separately;
- spin_consistency.csv: difference of a view between two sets of anchors and between two seeds, angle between generated and
  true normals, and between those of geometry and true ones, similarity to the first view after eight rotations of 45
  degrees, seconds per view for 48 views;
- spin_heads.png, spin_new.png, spin_between.png: eight views with normals of six heads (true, by geometry, generated); of
  sampled people; of people interpolated between two. spin_portrait.png: composed views of the bundled portrait with their
  normals.

Rows of spin.csv that are measured again are replaced. With `--rotators-alone` only the other rotators are measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro
from leaderboard import with_others
from tqdm import tqdm

from latentrot.bundles import PORTRAIT
from latentrot.data.arrays import resize, strip, to_tensor, to_uint8
from latentrot.data.images import write_image
from latentrot.errors import LatentrotError
from latentrot.evaluation.judges import load_judge
from latentrot.evaluation.metrics import squared_error, ssim
from latentrot.evaluation.perceptual import installed_lpips
from latentrot.portrait.portrait import open_portrait
from latentrot.portrait.spin import BETWEEN, YAWS, poses_around, shown_normals, slerp, spin_photograph
from latentrot.rotators.protocol import Rotator, rotate_many
from latentrot.rotators.registry import load_rotator
from latentrot.rotators.spin.config import NEW_PEOPLE
from latentrot.rotators.spin.model import SpinModel, load_spin_model
from latentrot.rotators.spin.reconstruct import MIN_NORMAL_LENGTH
from latentrot.rotators.spin.render import camera_of_crop
from latentrot.rotators.spin.rotator import SpinRotator
from latentrot.rotators.spin.sample import (
    NULL_IDENTITY,
    SpinSampleConfig,
    SpinViews,
    draw_views,
    identity_of,
    normals_of,
    spin,
)
from latentrot.synthetic.head_model import load_head_model
from latentrot.synthetic.sample import TEST_SEED, HeadParameters, sample_head, with_pose
from latentrot.synthetic.shade import render

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared"
FRONT = (-90.0, -60.0, -45.0, -30.0, -15.0, 15.0, 30.0, 45.0, 60.0, 90.0)
BACK = (135.0, 180.0, -135.0)
SEED = TEST_SEED + 20
#: side in pixels of the views on the sheet of the portrait
SHOWN_PX = 160
Draw = Callable[[np.ndarray, list[float]], list[np.ndarray]]


@dataclass(frozen=True)
class Options:
    """Options.

    Args:
        model: model folder of `latentrot train spin`; None: the bundled model.
        people: number of heads.
        ablations: number of heads for ablations and other numbers of steps.
        trained: name and folder of models trained for the same steps: "all conditions", "without geometry", "without image",
            "without identity", and "without normals and anchors" (the first one again, sampled so).
        consistent: number of heads for consistency.
        rotators: other rotators to compare with.
        rotators_alone: measure only the other rotators.
        steps: further numbers of steps to measure.
        guidance: further guidance scales to measure.
    """

    model: str | None = None
    people: int = 100
    ablations: int = 30
    trained: tuple[tuple[str, Path], ...] = ()
    consistent: int = 20
    rotators: tuple[str, ...] = ("nothing", "mirror", "latent", "mesh", "pair")
    rotators_alone: bool = False
    steps: tuple[int, ...] = (4,)
    guidance: tuple[float, ...] = (2.0,)


@dataclass(frozen=True, eq=False)
class Truth:
    """True views of a head by yaw: images and normals, uint8."""

    images: dict[float, np.ndarray]
    normals: dict[float, np.ndarray]


def truth_of(head: HeadParameters, yaws: tuple[float, ...]) -> Truth:
    """Render a head at pitch 0 from several yaws."""
    model = load_head_model(SHARED / "data" / "ict" / "ict_face_model_light.npz")
    drawn = {yaw: render(model, with_pose(head, yaw), 64, maps=True) for yaw in yaws}
    return Truth(
        {y: d.image for y, d in drawn.items()}, {y: d.normals for y, d in drawn.items() if d.normals is not None}
    )


def as_drawing(rotator: Rotator) -> Draw:
    """Wrap a rotator as a function of a frontal image and yaws."""
    return lambda image, yaws: rotate_many(rotator, image, yaws)


def rendering(model: SpinModel) -> Draw:
    """The geometric condition alone as such a function."""

    def draw(picture: np.ndarray, yaws: list[float]) -> list[np.ndarray]:
        camera = camera_of_crop(picture, torch.zeros(2), model.resolution)
        if camera is None:
            return [picture] * len(yaws)
        poses = torch.tensor([[yaw, 0.0] for yaw in yaws])
        return [c.transpose(1, 2, 0)[..., :3] for c in camera.conditions(poses, model.resolution).numpy()]

    return draw


def spinning(
    model: SpinModel, config: SpinSampleConfig, *, image: bool = True, who: bool = True, normals: bool = True
) -> Draw:
    """Wrap the multi-view model as such a function, optionally with some of its conditions dropped."""

    def draw(picture: np.ndarray, yaws: list[float]) -> list[np.ndarray]:
        asked = torch.tensor([[yaw, 0.0] for yaw in yaws])
        name = identity_of(model, picture) if who else NULL_IDENTITY
        square, front = to_tensor(picture)[0], torch.zeros(2)
        camera = camera_of_crop(picture, front, model.resolution) if model.network.with_geometry else None
        if not image:
            parts = [
                draw_views(model, None, part, name, config, camera).images for part in asked.split(config.together)
            ]
            return list(to_uint8(torch.cat(parts)[:, :3]))
        if normals:
            return list(to_uint8(spin(model, square, front, asked, name, config, camera).images[:, :3]))
        bare = SpinViews(torch.cat([square, torch.zeros_like(square)])[None], front[None])
        parts = [
            draw_views(model, bare, part, name, config, camera).images for part in asked.split(config.together - 1)
        ]
        return list(to_uint8(torch.cat(parts)[:, :3]))

    return draw


def as_far_as_it_turns(draw: Draw, image: np.ndarray, name: str) -> tuple[dict[float, np.ndarray], float]:
    """Views by yaw, and seconds per view; rotators that cannot show the back, such as geometry, give front views only."""
    for yaws in ([*FRONT, *BACK], [*FRONT]):
        begun = time.perf_counter()
        try:
            views = dict(zip(yaws, draw(image, yaws), strict=True))
        except LatentrotError as error:
            print(f"{name}: {error}")
        else:
            return views, (time.perf_counter() - begun) / len(yaws)
    return {}, 0.0


def measure(name: str, draw: Draw, heads: list[Truth], model: SpinModel) -> list[dict[str, object]]:
    """Measure front and back views: one row each."""
    perceptual, judge = installed_lpips(), SHARED / "judge" / "judge.py"
    by_judge = load_judge(judge).identity if judge.is_file() else None
    embed = by_judge or (model.person.embed if model.person else None)
    rows: dict[str, list[dict[str, float]]] = {"front": [], "back": []}
    for head in tqdm(heads, desc=name, disable=None):
        drawn, seconds = as_far_as_it_turns(draw, head.images[0.0], name)
        for yaw, picture in drawn.items():
            true = head.images[yaw]
            found = {"L2": squared_error(picture, true), "SSIM": ssim(picture, true), "seconds": seconds}
            if perceptual is not None:
                found["LPIPS"] = perceptual(picture, true)
            if embed is not None and yaw in FRONT:
                a, b = embed([picture, true])
                found["identity"] = float(np.dot(a, b))
            rows["front" if yaw in FRONT else "back"].append(found)
    return [
        {"way": name, "side": side, "heads": len(heads), **pd.DataFrame(found).mean().round(4)}
        for side, found in rows.items()
    ]


# --- consistency ---------------------------------------------------------------------------------------------------------


def rms(a: torch.Tensor, b: torch.Tensor) -> float:
    """Root mean squared difference of two images, in units of [0, 1]."""
    return float(((a - b) / 2).square().mean().sqrt())


def consistency(model: SpinModel, head: Truth, config: SpinSampleConfig) -> dict[str, float]:
    """Measure the consistency of one head's views."""
    square, front = to_tensor(head.images[0.0])[0], torch.zeros(2)
    who = identity_of(model, head.images[0.0])
    camera = camera_of_crop(head.images[0.0], front, model.resolution) if model.network.with_geometry else None
    first = SpinViews(normals_of(model, square, front, who, config, camera)[None], front[None])
    turns = torch.tensor([[y, 0.0] for y in (45.0, -45.0, 90.0, -90.0, 135.0, -135.0, 180.0)])
    anchors = first.joined(draw_views(model, first, turns, who, config, camera))
    asked = torch.tensor([[30.0, 0.0]])

    def drawn(given: list[int], seed: int) -> torch.Tensor:
        return draw_views(model, anchors.chosen(given), asked, who, replace(config, seed=seed), camera).images[0, :3]

    near, other, reseeded = drawn([0, 1, 3], 0), drawn([0, 2, 3], 0), drawn([0, 1, 3], 1)
    unseen = [draw_views(model, None, asked, NULL_IDENTITY, replace(config, seed=s)).images[0, :3] for s in (0, 1)]
    true = [head.normals[y] for y in (0.0, *turns[:, 0].tolist())]
    angles = [angle_deg(v[3:], t) for v, t in zip(anchors.images, true, strict=True)]
    here = first
    for step in range(1, 9):
        here = draw_views(model, here, torch.tensor([[(45.0 * step + 180) % 360 - 180, 0.0]]), who, config, camera)
    back = to_uint8(here.images[:, :3])[0]
    rendered = {}
    if camera is not None:
        views = camera.conditions(turns, model.resolution)[:, 3:6].float() / 127.5 - 1
        found = [angle_deg(v, t) for v, t in zip(views, true[1:], strict=True)]
        rendered = {"normals_geometry_deg": float(np.mean(found))}
    return rendered | {
        "rms_other_anchors": rms(near, other), "rms_other_seed": rms(near, reseeded), "rms_two_people": rms(*unseen),
        "normals_input_deg": angles[0], "normals_anchors_deg": float(np.mean(angles[1:])),
        "ssim_round": ssim(back, head.images[0.0]),
    }  # fmt: skip


def angle_deg(drawn: torch.Tensor, true: np.ndarray) -> float:
    """Mean angle in degrees between generated (3, s, s) and true (s, s, 3) uint8 normals, where both show the head."""
    a, b = drawn.permute(1, 2, 0).numpy(), true / 127.5 - 1
    lengths = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
    both = (lengths[0] > MIN_NORMAL_LENGTH) & (lengths[1] > MIN_NORMAL_LENGTH)
    cosine = (a * b).sum(-1)[both] / (lengths[0] * lengths[1])[both]
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())


# --- sheets --------------------------------------------------------------------------------------------------------------


def rows_of(views: SpinViews) -> list[np.ndarray]:
    """Row of images and row of normals of a head."""
    return [*to_uint8(views.images[:, :3]), *to_uint8(views.images[:, 3:])]


def write_sheets(model: SpinModel, heads: list[Truth], config: SpinSampleConfig) -> None:
    """Write the sheets: six heads, sampled people, people interpolated between two."""
    asked = torch.tensor([[yaw, 0.0] for yaw in YAWS])
    rows: list[np.ndarray] = []
    for head in heads[:6]:
        picture = head.images[0.0]
        rows += [head.images[y] for y in YAWS]
        camera = camera_of_crop(picture, torch.zeros(2), model.resolution) if model.network.with_geometry else None
        if camera is not None:
            rows += [camera.rendered(p).image.clip(0, 255).astype(np.uint8) for p in asked]
        views = spin(model, to_tensor(picture)[0], torch.zeros(2), asked, identity_of(model, picture), config, camera)
        rows += rows_of(views)
    write_image(HERE / "spin_heads.png", strip(rows, columns=len(YAWS)))
    spun = spin_photograph(open_portrait(PORTRAIT), SpinRotator(model, config), len(YAWS))
    views = [*spun.images, *shown_normals(spun)]
    write_image(HERE / "spin_portrait.png", strip([resize(v, SHOWN_PX) for v in views], columns=len(YAWS)))
    model = load_spin_model(NEW_PEOPLE)
    people = [spin(model, None, torch.zeros(2), asked, config=replace(config, seed=s)) for s in range(6)]
    write_image(HERE / "spin_new.png", strip([p for v in people for p in rows_of(v)], columns=len(YAWS)))
    if model.person is None:
        return
    a, b = (identity_of(model, head.images[0.0]) for head in heads[:2])
    shares = torch.linspace(0, 1, BETWEEN + 2).tolist()
    between = [draw_views(model, None, asked, slerp(a, b, share), config) for share in shares]
    write_image(
        HERE / "spin_between.png", strip([p for v in between for p in to_uint8(v.images[:, :3])], columns=len(YAWS))
    )


def main(options: Options) -> None:
    """Measure, and write tables and sheets."""
    model, config = load_spin_model(options.model), SpinSampleConfig()
    yaws = (0.0, *FRONT, *BACK)
    heads = [truth_of(sample_head(SEED, i), yaws) for i in tqdm(range(options.people), desc="render", disable=None)]
    ways = [(name, as_drawing(load_rotator(name)), heads) for name in options.rotators]
    if not options.rotators_alone:
        write_sheets(model, heads, config)
        write_consistency(model, heads[: options.consistent], config)
        ours = [("spin", spinning(model, config), heads)]
        if model.network.with_geometry:
            ours.append(("geometry", rendering(model), heads))
        ways = [*ours, *ways, *ablations(model, config, heads, options)]
    rows: list[dict[str, object]] = []
    for name, draw, measured in ways:
        rows += measure(name, draw, measured, model)
        table = with_others(pd.DataFrame(rows), HERE / "spin.csv", ["way", "side", "heads"])
        table.to_csv(HERE / "spin.csv", index=False)
    print(pd.DataFrame(rows).to_string(index=False))


def write_consistency(model: SpinModel, heads: list[Truth], config: SpinSampleConfig) -> None:
    """Table of the consistency of views, and of the time per view for 48 views."""
    found = [consistency(model, head, config) for head in tqdm(heads, desc="consistency", disable=None)]
    begun = time.perf_counter()
    picture, front = heads[0].images[0.0], torch.zeros(2)
    camera = camera_of_crop(picture, front, model.resolution) if model.network.with_geometry else None
    spin(model, to_tensor(picture)[0], front, poses_around(48), config=config, camera=camera)
    table = pd.DataFrame(found).mean().round(4)
    table["seconds_a_view_of_48"] = round((time.perf_counter() - begun) / 48, 3)
    table.rename("value").to_csv(HERE / "spin_consistency.csv", index_label="measure")
    print(table)


def ablations(
    model: SpinModel, config: SpinSampleConfig, heads: list[Truth], options: Options
) -> list[tuple[str, Draw, list[Truth]]]:
    """Models trained without a condition, other numbers of steps and guidance scales, on some heads."""
    some = heads[: options.ablations]
    ways = [(f"spin, {len(some)} heads", spinning(model, config), some)]
    ways += [(f"trained alike: {n}", trained_without(n, folder, config), some) for n, folder in options.trained]
    ways += [(f"spin, {n} steps", spinning(model, replace(config, steps=n)), some) for n in options.steps]
    ways += [(f"spin, guidance {g:g}", spinning(model, replace(config, guidance=g)), some) for g in options.guidance]
    return ways


def trained_without(name: str, folder: Path, config: SpinSampleConfig) -> Draw:
    """Wrap a model that was trained without a condition, which it does not get in sampling either."""
    return spinning(
        load_spin_model(folder), config, image=name != "without image", who=name != "without identity",
        normals=name != "without normals and anchors",
    )  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Options))

"""Compare light fixed in the scene (`mesh`) with light that rotates with the head (`--light-follows`).

    python experiments/keep_light.py

Reads ../shared/data; the judge in ../shared/judge measures yaw and identity. Each head is fitted once and rotated with both:

- `ytf`: two frames of one clip of held-out people; one frame is rotated to the pose of the other. The ridge and the order of
  the harmonics were chosen on these people;
- `ytf, others`: the same with people on whom no parameter of the shading was chosen. The landmark and parsing networks may
  have been trained on them, which affects both variants alike;
- `heads`: rendered heads rotated from the frontal pose, each under a fixed light;
- `lfw`: photographs of held-out people, rotated by -35 to 35 degrees. Measures whether the label network assigns the result
  to the same illumination class as the source.

Writes keep_light.csv beside this script: one row per set, rotation and variant. `--strips FOLDER` saves a strip for each LFW
person: source, light that follows, light that is fixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from tqdm import tqdm

from latentrot.data.arrays import to_tensor
from latentrot.data.celeba import held_out
from latentrot.data.images import read_image, write_image
from latentrot.errors import LatentrotError
from latentrot.evaluation.judges import CachedEstimate, Judge, load_judge
from latentrot.evaluation.measure import Instruments, measure
from latentrot.evaluation.pairs import WIDE_BOX, EvaluationConfig, Pairs
from latentrot.evaluation.place import sure_landmarks
from latentrot.evaluation.run import read_pairs
from latentrot.faces.detect import detect_faces
from latentrot.faces.estimate import estimate_light, light_names
from latentrot.faces.framing import frame_face
from latentrot.faces.network import load_labeler
from latentrot.geometry import Head, HeadFitter, TurnedHead, turn_head
from latentrot.geometry.turn import realign_crop
from latentrot.synthetic.sample import TEST_SEED
from latentrot.synthetic.write import HeadFolder, ViewGrid, write_heads

HERE = Path(__file__).parent
WORK = Path("runs/keep_light")
ANGLES = (-45.0, -30.0, -15.0, 0.0, 15.0, 30.0, 45.0)
TURNS = (-35.0, -25.0, -15.0, 15.0, 25.0, 35.0)
#: variants: name -> whether the light rotates with the head
WAYS = {"light follows": True, "light kept": False}
#: measures of real pairs and rendered heads; the first one ranks the variants
MEASURED = ("squared_error_face", "ssim_face", "identity_true", "yaw_error_judge_deg", "light_kept")


@dataclass(frozen=True)
class KeepLight:
    """Options.

    Args:
        data: folder of the development data.
        judge: module that measures yaw and identity.
        others: number of people of `ytf, others`.
        heads: number of rendered heads.
        people: number of LFW people.
        strips: folder for the strips of LFW people.
        sets: sets to measure; existing rows of other sets are kept.
        out: output table.
    """

    data: Path = Path("../shared/data")
    judge: Path = Path("../shared/judge/judge.py")
    others: int = 60
    heads: int = 16
    people: int = 30
    strips: Path | None = None
    sets: tuple[str, ...] = ("ytf", "ytf, others", "heads", "lfw")
    out: Path = HERE / "keep_light.csv"


def instruments(pairs: Pairs, judge: Judge) -> Instruments:
    """Load the label network and the judge, without the yaw regressions."""
    landmarks = CachedEstimate(lambda pictures: [sure_landmarks(p, pairs.size) for p in pictures])
    pose, identity = (CachedEstimate(f) if f else None for f in (judge.pose, judge.identity))
    return Instruments(load_labeler(), {}, None, landmarks, pose, identity)


def rotated(pairs: Pairs, source: int, degrees: list[float]) -> dict[str, list[np.ndarray]]:
    """Rotate one source with both variants, cropped like the true image."""
    there, fitter = pairs.photograph(source), HeadFitter()
    if there is None:
        head = fitter.fit_crop(pairs.images[source])
        return {way: [realign_crop(head, t) for t in turns_of(head, degrees, f)] for way, f in WAYS.items()}
    photograph, alignment = there
    head = fitter.fit(photograph, alignment)
    return {
        way: [alignment.crop(t.image, pairs.wide, WIDE_BOX) for t in turns_of(head, degrees, follows)]
        for way, follows in WAYS.items()
    }


def turns_of(head: Head, degrees: list[float], light_follows: bool) -> Iterator[TurnedHead]:
    """Rotate a head by each angle in degrees."""
    return (turn_head(head, yaw, light_follows=light_follows) for yaw in degrees)


def pair_rows(name: str, pairs: Pairs, judge: Judge) -> pd.DataFrame:
    """One row per pair and variant: the measures, and the mean absolute difference in the face, 0 to 255."""
    pictures: dict[str, list[np.ndarray]] = {way: [] for way in WAYS}
    kept = []
    for source, part in tqdm(pairs.table.groupby("source", sort=False), desc=name, disable=None):
        try:
            found = rotated(pairs, int(source), part["requested_deg"].tolist())  # type: ignore[arg-type]
        except LatentrotError as error:
            print(f"{pairs.names[int(source)]}: {error}")  # type: ignore[arg-type]
            continue
        kept.append(part)
        for way, turned in found.items():
            pictures[way] += turned
    table, by = pd.concat(kept), instruments(pairs, judge)
    if pairs.rendered:  # measures of the true image: those of a perfect rotation
        pictures["truth"] = list(pairs.images[table["truth"].to_numpy()])
    rows = []
    for way, turned in pictures.items():
        measured = measure(pairs, table, turned, by).assign(set=name, way=way)
        if pairs.rendered:
            measured["absolute_error_face"] = [
                np.abs(p.astype(float) - pairs.images[t])[pairs.faces[t]].mean()
                for p, t in zip(turned, table["truth"], strict=True)
            ]
        rows.append(measured)
    return pd.concat(rows, ignore_index=True)


def summary(rows: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Means per set, rotation range and variant; squared errors times 1000, and the share of pairs with a lower error."""
    rows = rows.assign(size=rows["turn"].abs(), squared_error_face=1000 * rows["squared_error_face"])
    parts = [("all", rows), *((f"{size:g}", part) for size, part in rows[rows["set"] == "heads"].groupby("size"))]
    for size, part in parts:
        errors = part.pivot(index="pair", columns="way", values="squared_error_face")
        better = float((errors["light kept"] < errors["light follows"]).mean())
        for way, own in part.groupby("way", sort=False):
            means = own[[m for m in (*MEASURED, "absolute_error_face") if m in own]].mean().round(3)
            row: dict[str, object] = {"set": own["set"].iloc[0], "turn": size, "way": way, "pictures": len(own)}
            row |= {"people": own["person"].nunique(), **means}
            yield row | ({"share_better": round(better, 3)} if way == "light kept" else {})


def drawn_heads(count: int) -> Path:
    """Render heads, each under a different light."""
    write_heads(HeadFolder(TEST_SEED, count, size=128, maps=True, views=ViewGrid(ANGLES)), WORK / "heads", 1)
    return WORK / "heads"


def others(options: KeepLight) -> Pairs:
    """One pair of each of several people who are not held out."""
    pairs = read_pairs(options.data / "ytf", EvaluationConfig(everybody=True, per_person=1))
    table = pairs.table[~held_out(pairs.table["person"])]
    one = table.sample(frac=1, random_state=0).drop_duplicates("person").sort_values("person")
    return replace(pairs, table=one.iloc[: options.others].reset_index(drop=True))


def strangers(options: KeepLight) -> Iterator[tuple[str, np.ndarray, Head]]:
    """Photographs of held-out LFW people, and the heads fitted to them."""
    lfw, done = options.data / "lfw", 0
    names = np.array(sorted(p.name for p in lfw.iterdir() if p.is_dir()))
    for name in np.random.default_rng(11).permutation(names[held_out(names)]):
        photograph = read_image(sorted((lfw / name).glob("*.jpg"))[0])
        faces = detect_faces(photograph)
        try:
            head = HeadFitter().fit(photograph, frame_face(photograph, faces[0].landmarks), faces) if faces else None
        except LatentrotError as error:
            print(f"{name}: {error}")
            continue
        if head is None:
            continue
        yield str(name), photograph, head
        done += 1
        if done == options.people:
            return


def light_of(turned: TurnedHead) -> str:
    """Illumination class of a face, by the label network."""
    return str(light_names(estimate_light(to_tensor(turned.alignment.crop(turned.image, 128)[None])))[0])


def light_rows(options: KeepLight) -> Iterator[dict[str, object]]:
    """Share of photographs whose illumination class is unchanged, per rotation range and variant."""
    rows = []
    for i, (name, photograph, head) in enumerate(tqdm(strangers(options), total=options.people, disable=None)):
        light, strip = light_of(turn_head(head, 0.0)), []
        for way, follows in WAYS.items():
            turned = list(turns_of(head, list(TURNS), follows))
            lights = [light_of(t) for t in turned]
            rows += [(name, way, abs(turn), lit == light) for turn, lit in zip(TURNS, lights, strict=True)]
            strip.append(np.hstack([photograph, *(turned[k].image for k in (0, 1, 4, 5))]))
        if options.strips is not None:
            options.strips.mkdir(parents=True, exist_ok=True)
            write_image(options.strips / f"{i:02d}-{name}-{light}.png", np.vstack(strip))
    table = pd.DataFrame(rows, columns=["person", "way", "turn", "kept"])
    for (turn, way), part in table.groupby(["turn", "way"], sort=False):
        shares = {"light_kept": round(float(part["kept"].mean()), 3), "people": part["person"].nunique()}
        yield {"set": "lfw", "turn": f"{turn:g}", "way": way, "pictures": len(part), **shares}


def main(options: KeepLight) -> None:
    """Rotate, measure, and write the table."""
    judge, rows = load_judge(options.judge), []
    makes = {
        "ytf": lambda: read_pairs(options.data / "ytf", EvaluationConfig()),
        "ytf, others": lambda: others(options),
        "heads": lambda: read_pairs(
            drawn_heads(options.heads), EvaluationConfig(targets=tuple(t for t in ANGLES if t))
        ),
    }
    for name in options.sets:
        rows += light_rows(options) if name == "lfw" else summary(pair_rows(name, makes[name](), judge))
    table = pd.DataFrame(rows)
    if options.out.is_file():
        before = pd.read_csv(options.out)
        table = pd.concat([before[~before["set"].isin(options.sets)], table])
    table.to_csv(options.out, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main(tyro.cli(KeepLight, description=__doc__))

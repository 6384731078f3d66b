"""Images that do not lie in the CelebA frame are named, and brought there by `align`."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from latentrot.bundles import PORTRAIT, bundled_example
from latentrot.cli import main
from latentrot.data.celeba import FaceFolder
from latentrot.data.images import read_image
from latentrot.errors import LatentrotError
from latentrot.faces.align import align_folder, align_image, photographs_in, transform_table
from latentrot.faces.alignment import MEAN_LANDMARKS
from latentrot.faces.detect import detect_faces
from latentrot.faces.frame_check import check_crop_frame, check_frame, frame_alignment, frame_fault
from latentrot.faces.framing import frame_face
from latentrot.files import output_names


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """The bundled portrait."""
    return read_image(PORTRAIT)


@pytest.fixture(scope="module")
def alignment(photo):
    """Where its face lies."""
    return frame_face(photo, detect_faces(photo)[0].landmarks)


def folder_of(root: Path, images: dict[str, np.ndarray]) -> FaceFolder:
    root.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        Image.fromarray(image).save(root / name)
    return FaceFolder(root)


def images_of(root: Path) -> FaceFolder:
    """The images of a set, which may lie in its only folder."""
    inside = [p for p in root.iterdir() if p.is_dir() and not p.name.startswith("img_align")]
    return FaceFolder(inside[0] if inside else root)


def test_rendered_heads_lie_in_the_frame():
    """From the front and in profile."""
    folder = FaceFolder(bundled_example("heads64"))
    assert [frame_fault(np.asarray(folder.open_image(i))) for i in folder.ids] == [""] * len(folder.ids)


@pytest.mark.parametrize(("name", "count"), [("celeba", 60), ("age", 40), ("ytf", 40)])
def test_no_false_alarm_on_aligned_photographs(shared_data, name, count):
    """Of those in which a face is seen none is off."""
    folder = images_of(shared_data / name)
    faults = [frame_fault(np.asarray(folder.open_image(i))) for i in folder.ids[:: len(folder.ids) // count]]
    assert [f for f in faults if f] == []
    assert faults.count("") > 0.95 * len(faults)


def test_raw_photographs_of_people_are_refused(shared_data, tmp_path):
    """Squares, but no crops."""
    for path in sorted((shared_data / "lfw").rglob("*.jpg"))[:4000:100]:
        shutil.copy(path, tmp_path / path.name)
    with pytest.raises(LatentrotError, match=r"39 of 40 checked faces .* latentrot align .* --out aligned/"):
        check_frame(FaceFolder(tmp_path))


@pytest.mark.parametrize(
    ("box", "word"),
    [
        ((25, 57, 153, 185), ""),
        ((-40, -8, 218, 250), "times as large"),
        ((-5, 57, 123, 185), "displaced by"),
    ],
)
def test_the_deviation_is_stated(photo, alignment, box, word):
    """A crop of the frame, one that is too wide or too tight, one beside it."""
    fault = frame_fault(alignment.crop(photo, 128, box))
    assert fault is not None
    assert (fault == "") if not word else (word in fault)


def test_a_rolled_face_is_reported(photo, alignment):
    """By thirty degrees."""
    leaning = Image.fromarray(align_image(photo, alignment)).rotate(30, Image.Resampling.BICUBIC, center=(89, 124))
    assert "leans by" in (frame_fault(np.asarray(leaning)) or "")


def test_a_folder_is_named_or_refused(photo, alignment, tmp_path, caplog):
    """A few that are off are named, most refused; noise is no face at all."""
    good, off = align_image(photo, alignment), photo[:400, :400]
    some = folder_of(tmp_path / "some", {**{f"{i}.png": good for i in range(5)}, "raw.png": off})
    check_frame(some)
    assert "1 of 6 checked faces" in caplog.text
    assert "raw.png" in caplog.text
    with pytest.raises(LatentrotError, match=r"4 of 5 checked faces .* 1.png, 2.png, 3.png and 1 others"):
        check_frame(folder_of(tmp_path / "most", {"0.png": good, **{f"{i}.png": off for i in range(1, 5)}}))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    check_frame(folder_of(tmp_path / "noise", {"0.png": noise}))


@pytest.mark.parametrize(
    "command",
    [
        "label --data off --out l.csv", "label light --data off --answers a.csv", "label check --celeba off --yaleb off",
        "embed --data off --out s", "train model --data off --out r", "train embedder --data off --out r",
        "train pair --data off --out r", "train person --data off --people 0 --out r", "train labeler --heads off",
        "train attributes --celeba off --aged off",
    ],
)  # fmt: skip
def test_every_command_that_reads_a_folder_checks_it(photo, tmp_path, monkeypatch, capsys, command):
    """And writes nothing into the place of its result."""
    folder_of(tmp_path / "off", {f"{i}.png": photo[:400, :400] for i in range(3)})
    (tmp_path / "a.csv").write_text("image_id,light,annotator,time,digest\n")
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    assert "3 of 3 checked faces in" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "off"]


def test_a_crop_must_show_its_face_in_the_frame(photo, alignment, tmp_path, monkeypatch, capsys):
    """A whole portrait, and no face at all, are refused by --crop; the face's own crop is not."""
    with pytest.raises(LatentrotError, match="as large as in the frame; leave --crop out"):
        check_crop_frame(photo, PORTRAIT)
    with pytest.raises(LatentrotError, match="no face found in it"):
        check_crop_frame(np.full((64, 64, 3), 128, np.uint8), PORTRAIT)
    check_crop_frame(alignment.crop(photo, 128), PORTRAIT)
    monkeypatch.chdir(tmp_path)
    assert main(["edit", str(PORTRAIT), "--crop", "--deg", "15", "--rotator", "mesh"]) == 2
    assert "latentrot align" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "shape"), [(None, (218, 178)), (96, (96, 96))])
def test_aligned_images_lie_in_the_frame(photo, tmp_path, size, shape):
    """Whatever the photograph's position and scale; the table's transform leads a photograph's face to the mean face."""
    sideways = np.ascontiguousarray(np.rot90(photo, 1))
    source = folder_of(tmp_path / "photos", {"a.png": photo, "side.png": sideways, "wall.png": photo[:60, :60]})
    out = tmp_path / "aligned"
    out.mkdir()
    done = list(align_folder(photographs_in(source.root), out, size))
    assert [(a.name, a.quarters, a.error) for a in done] == [
        ("a.png", 0, ""), ("side.png", 3, ""), ("wall.png", 0, "no face found in it"),
    ]  # fmt: skip
    for name in ("a.png", "side.png"):
        image = read_image(out / name)
        assert image.shape[:2] == shape
        assert frame_fault(image) == ""
        found = detect_faces(image)[0].landmarks
        eyes = frame_alignment(image.shape[1], image.shape[0]).to_frame(found)[:2]
        assert np.abs(eyes - MEAN_LANDMARKS[:2]).max() < 3
    table = pd.DataFrame(transform_table(done, source.root)).set_index("image_id")
    matrix = table.loc["a.png", list("abcdef")].to_numpy(float).reshape(2, 3)
    eyes = detect_faces(photo)[0].landmarks[:2] @ matrix[:, :2].T + matrix[:, 2]
    assert np.abs(eyes - MEAN_LANDMARKS[:2]).max() < 3
    assert table["faces"].tolist() == [1, 1]


def test_the_command_aligns_lists_and_feeds_label(tmp_path, monkeypatch, capsys, photo):
    """Photographs in subfolders; those without a face are listed, and the exit code says so."""
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "photos", {"a.png": photo})
    folder_of(tmp_path / "photos" / "more", {"a.jpg": photo, "wall.jpg": photo[:60, :60]})
    assert main(["align", "photos", "--out", "aligned"]) == 2
    printed = capsys.readouterr()
    assert "aligned 2 of 3 photographs" in printed.out
    assert "wall.jpg: no face found in it" in printed.err
    assert sorted(p.name for p in (tmp_path / "aligned").glob("*.png")) == ["a.jpg.png", "a.png.png"]
    table = pd.read_csv("aligned/transforms.csv")
    assert sorted(table["source"]) == ["a.png", "more/a.jpg"]
    assert main(["label", "--data", "aligned", "--out", "labels.csv"]) == 0
    assert main(["align", "photos", "--out", "photos"]) == 2
    assert main(["align", "nowhere"]) == 2


def test_people_keep_their_names(tmp_path, monkeypatch, capsys, photo):
    """One subfolder per person; a photograph outside of them is refused before the first is aligned."""
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "people" / "Ann" / "1990", {"a.png": photo})
    folder_of(tmp_path / "people" / "Bo", {"b.png": photo})
    assert main(["align", "people", "--people", "--size", "64", "--out", "aligned"]) == 0
    assert FaceFolder(tmp_path / "aligned").identities.to_dict() == {"a.png": "Ann", "b.png": "Bo"}
    folder_of(tmp_path / "people", {"loose.png": photo})
    assert main(["align", "people", "--people", "--out", "other"]) == 2
    assert "1 of 3 photographs lie in no subfolder of people, such as loose.png" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["p.jpg"], ["p.png"]),
        (["p.jpg", "q.jpg"], ["p.png", "q.png"]),
        (["p.jpg", "p.jpg.webp", "p.png"], ["p.jpg.png", "p.jpg.webp.png", "p.png.png"]),
        (["P.jpg", "p.png"], ["P.jpg.png", "p.png.png"]),
        (["a/p.jpg", "b/p.jpg"], ["p.jpg-1.png", "p.jpg-2.png"]),
    ],
)
def test_no_two_outputs_share_a_name(given, names):
    """Also where case does not count."""
    made = output_names([Path(g) for g in given], ".png")
    assert len({n.casefold() for n in made}) == len(given)
    if given[0][1] != "/":
        assert made == names

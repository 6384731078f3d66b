"""Tables and trees as people have them: what they say is found, whatever the dialect; what is not understood is named."""

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageCms
from tiny import gradients, write_pictures

from latentrot.cli import main
from latentrot.data.celeba import FaceFolder, held_out, open_folder
from latentrot.data.filters import matching
from latentrot.data.images import Photograph, read_image, read_photograph, write_photograph
from latentrot.data.tables import as_names, read_table
from latentrot.errors import LatentrotError
from latentrot.files import check_format, check_writable

NAMES = ["000001.jpg", "000002.jpg", "000003.jpg"]
PEOPLE = ["612", "0613", "612"]
COUNT, ATTRIBUTES = "3\n", "5_o_Clock_Shadow Male Young "
#: the same two columns of numbers in the dialects they come in
DIALECTS = {
    "authors.txt": "3\nA B_1 \n000001.jpg -1  1 \n000002.jpg  1 -1 \n000003.jpg -1 -1 \n",
    "kaggle.csv": "image_id,A,B_1\n000001.jpg,-1,1\n000002.jpg,1,-1\n000003.jpg,-1,-1\n",
    "other.csv": '"File Name",A,B_1\r\n000001.jpg,-1,1\r\n000002.jpg,1,-1\r\n000003.jpg,-1,-1\r\n',
    "unnamed.csv": ",A,B_1\n000001.jpg,-1,1\n000002.jpg,1,-1\n000003.jpg,-1,-1\n",
    "semicolons.csv": "\ufeffimage_id;A;B_1\n000001.jpg;-1;1\n000002.jpg;1;-1\n000003.jpg;-1;-1\n",
    "tabs.tsv": "image_id\tA\tB_1\n000001.jpg\t-1\t1\n000002.jpg\t1\t-1\n000003.jpg\t-1\t-1\n",
    "spaces.txt": "name A B_1\n000001.jpg -1 1\n000002.jpg 1 -1\n000003.jpg -1 -1\n",
    "bare.csv": "000001.jpg,-1,1\n000002.jpg,1,-1\n000003.jpg,-1,-1\n",
    "counted.txt": "3\n000001.jpg -1 1\n000002.jpg 1 -1\n000003.jpg -1 -1\n",
}


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_is_read_alike(tmp_path, name):
    (tmp_path / name).write_text(DIALECTS[name], newline="")
    table = read_table(tmp_path / name, ["A", "B_1"])
    assert table.index.tolist() == NAMES
    assert table.index.name == "image_id"
    assert table.to_dict("list") == {"A": [-1, 1, -1], "B_1": [1, -1, -1]}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "empty"),
        ("000001.jpg,1\n", "2 columns but no header"),
        ("image_id,A\n000001.jpg,1\n000001.jpg,2\n", "such as 000001.jpg"),
        ('image_id,A\n"000001.jpg,1\n', "cannot read"),
    ],
)
def test_invalid_tables_are_refused_in_one_line(tmp_path, content, match):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(LatentrotError, match=match) as refused:
        read_table(tmp_path / "t.csv")
    assert "\n" not in str(refused.value)


def test_a_name_is_the_same_whatever_type_a_table_gave_it():
    for values in (["612", "613"], [612, 613], [612.0, 613.0], ["612.0", "613.0"]):
        assert as_names(values).tolist() == ["612", "613"]
    assert as_names([612.0, None])[0] == "612"
    assert as_names(pd.Series([612.0, None])).isna().tolist() == [False, True]
    assert as_names(["0612", "a.0"]).tolist() == ["0612", "a.0"]
    people = [str(i) for i in range(300)]
    floats = pd.Series([float(p) for p in people])
    assert 10 < held_out(people).sum() < 60
    assert (held_out(floats) == held_out(people)).all()


# ---- trees ------------------------------------------------------------------------------------------------------


def tables(folder: Path, suffix: str = ".txt") -> None:
    """Identities and attributes as CelebA's authors, or others, write them."""
    folder.mkdir(parents=True, exist_ok=True)
    if suffix == ".txt":
        rows = zip(NAMES, PEOPLE, strict=True)
        (folder / "identity_CelebA.txt").write_text("".join(f"{n} {p}\n" for n, p in rows))
        values = "".join(f"{n} -1  1 -1 \n" for n in NAMES)
        (folder / "list_attr_celeba.txt").write_text(COUNT + ATTRIBUTES + "\n" + values)
    else:
        pd.DataFrame({"image_id": NAMES, "identity": PEOPLE}).to_csv(folder / "identity_CelebA.csv", index=False)
        pd.DataFrame(-1, NAMES, ATTRIBUTES.split()).assign(Male=1).to_csv(folder / "list_attr_celeba.csv")


def pictures(folder: Path, suffix: str = ".jpg") -> None:
    folder.mkdir(parents=True)
    for name, picture in zip(NAMES, gradients(3, 16), strict=True):
        Image.fromarray(picture).save(folder / (name[:-4] + suffix))


TREES = {
    "one folder": ("img_align_celeba", ".", ".csv", ".jpg", "."),
    "beside each other": (".", ".", ".csv", ".jpg", "."),
    "the authors'": ("Img/img_align_celeba", "Anno", ".txt", ".jpg", "."),
    "the authors', in PNG": ("Img/img_align_celeba_png", "Anno", ".txt", ".png", "."),
    "torchvision": ("celeba/img_align_celeba", "celeba", ".txt", ".jpg", "."),
    "Kaggle": ("img_align_celeba/img_align_celeba", ".", ".csv", ".jpg", "."),
    "another suffix": ("img_align_celeba", ".", ".csv", ".webp", "."),
    "the pictures' folder given": ("img_align_celeba", ".", ".txt", ".jpg", "img_align_celeba"),
    "the authors', the pictures' folder given": ("Img/img_align_celeba", "Anno", ".txt", ".jpg", "Img/img_align_celeba"),
}  # fmt: skip


@pytest.mark.parametrize("tree", TREES)
def test_every_folder_layout_is_read(tmp_path, tree):
    where, beside, dialect, suffix, given = TREES[tree]
    root = tmp_path / "data"
    if where == ".":
        pictures(root, suffix)
    else:
        pictures(root / where, suffix)
    tables(root / beside, dialect)
    folder = open_folder(root / given)
    assert folder.ids == [n[:-4] + suffix for n in NAMES]
    assert folder.identities.tolist() == PEOPLE
    assert folder.attributes is not None
    assert matching(folder.attributes, "Male == 1 and 5_o_Clock_Shadow == -1").all()
    assert folder.read_crops(folder.ids, 16).shape == (3, 16, 16, 3)


def test_people_may_be_called_na_or_null(tmp_path):
    """Those are names, not missing values; an empty cell is one."""
    path = tmp_path / "identity_CelebA.csv"
    path.write_text("image_id,identity\n1.jpg,NA\n2.jpg,null\n3.jpg,\n4.jpg,007\n")
    assert read_table(path)["identity"].fillna("-").tolist() == ["NA", "null", "-", "007"]


def test_an_image_nobody_names_is_its_own_person_and_changes_nobody_else(tmp_path):
    pictures(tmp_path / "a")
    (tmp_path / "a" / "identity_CelebA.csv").write_text("image_id,identity\n000001.jpg,612\n000003.jpg,613\n")
    assert FaceFolder(tmp_path / "a").identities.tolist() == ["612", "000002.jpg", "613"]
    argv = ["label", "--data", str(tmp_path / "a"), "--out", str(tmp_path / "l.csv"), "--device", "cpu"]
    assert main(argv) == 0
    from latentrot.faces.table import read_labels  # noqa: PLC0415

    assert read_labels(tmp_path / "l.csv")["identity"].tolist() == ["612", "000002.jpg", "613"]
    old = pd.read_csv(tmp_path / "l.csv")  # as earlier versions wrote it
    old.assign(identity=[612.0, np.nan, 613.0]).to_csv(tmp_path / "old.csv", index=False)
    assert read_labels(tmp_path / "old.csv")["identity"].tolist() == ["612", "000002.jpg", "613"]
    pd.concat([old, old.iloc[:1]]).to_csv(tmp_path / "twice.csv", index=False)
    with pytest.raises(LatentrotError, match=r"lists 1 images twice, such as 000001\.jpg"):
        read_labels(tmp_path / "twice.csv")


def test_zeros_for_no_partitions_and_landmarks(tmp_path):
    pictures(tmp_path / "a")
    (tmp_path / "a" / "list_attr_celeba.csv").write_text("image_id,Male\n000001.jpg,0\n000002.jpg,1\n000003.jpg,0\n")
    (tmp_path / "a" / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n")
    rows = "".join(f"{n} 69  109  106  113   77  142   73  152  108  154\n" for n in NAMES)
    (tmp_path / "a" / "list_landmarks_align_celeba.txt").write_text("3\n" + " ".join("abcdefghij") + "\n" + rows)
    folder = FaceFolder(tmp_path / "a")
    assert folder.attributes["Male"].tolist() == [-1, 1, -1]
    assert folder.partition.tolist() == [0, 1, 2]
    assert folder.landmarks.shape == (3, 5, 2)
    assert folder.landmarks[0].tolist() == [[69, 109], [106, 113], [77, 142], [73, 152], [108, 154]]


def test_unused_tables_are_reported_once(tmp_path, caplog):
    root = tmp_path / "a"
    pictures(root)
    pictures(root / "more")
    for name in ("a.arw", "b.arw", "._000001.jpg", "notes.txt"):
        (root / name).write_bytes(b"x")
    with caplog.at_level(logging.INFO):
        open_folder(root)
    assert [r.getMessage().replace(str(root), "a") for r in caplog.records] == [
        "a: 3 images; no tables beside them",
        "left out: 2 files (.arw), 3 images in subfolders",
        "unknown tables are ignored: notes.txt",
    ]
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "img_align_celeba.zip").write_bytes(b"PK")
    with pytest.raises(LatentrotError, match=r"unpack img_align_celeba\.zip first"):
        open_folder(tmp_path / "packed")


# ---- filters ----------------------------------------------------------------------------------------------------


def test_columns_that_are_no_python_names_can_be_named():
    table = pd.DataFrame({"5_o_Clock_Shadow": [1, -1], "Male": [1, 1], "Big Lips": [1, -1], "5_o": [-1, 1]})
    for where in ("5_o_Clock_Shadow == 1", "`5_o_Clock_Shadow` == 1 and Male == 1", "(`Big Lips` == 1)", "Big Lips==1",
                  "5_o == -1", "`Male` == 1 and 5_o < 0"):  # fmt: skip
        assert matching(table, where).tolist() == [True, False], where


@pytest.mark.parametrize(
    ("where", "advice"),
    [
        ("Male = 1", "two equal signs"),
        ("Male == 1 AND Young == 1", "write and instead of AND"),
        ("Male == 1 & Young == 1", "write and instead of &"),
        ("Male == 1 || Young == 1", "write or instead of ||"),
        ("NOT Male == 1", "write not instead of NOT"),
        ("`Mal e` == 1", "no such column"),
    ],
)
def test_operators_of_other_languages_get_a_hint(where, advice):
    with pytest.raises(LatentrotError) as refused:
        matching(pd.DataFrame({"Male": [1], "Young": [1]}), where)
    assert advice in str(refused.value)
    assert "syntax" not in str(refused.value)


# ---- colours, orientation, animations ---------------------------------------------------------------------------


def display_p3() -> bytes:
    """An ICC profile of a wider gamut than sRGB: its primaries' matrix, assembled by hand from the standard's numbers."""
    primaries = [(0.515, 0.241, -0.001), (0.292, 0.692, 0.042), (0.157, 0.067, 0.784)]

    def number(x: float) -> bytes:
        return round(x * 65536).to_bytes(4, "big", signed=True)

    xyz = {name: b"XYZ \0\0\0\0" + b"".join(map(number, p)) for name, p in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}  # fmt: skip  # noqa: E501
    curve = b"curv\0\0\0\0" + (1).to_bytes(4, "big") + round(2.2 * 256).to_bytes(2, "big") + b"\0\0"
    text = b"Display P3"
    about = b"desc\0\0\0\0" + (len(text) + 1).to_bytes(4, "big") + text + b"\0" + bytes(78)
    about += bytes(-len(about) % 4)
    tags = {b"desc": about, b"cprt": b"text\0\0\0\0none\0\0\0\0", b"wtpt": b"XYZ \0\0\0\0" + b"".join(map(number, (0.9642, 1, 0.8249))), **xyz}  # fmt: skip  # noqa: E501
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, body, start = len(tags).to_bytes(4, "big"), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + (start + len(body)).to_bytes(4, "big") + len(content).to_bytes(4, "big")
        body += content
    size = start + len(body)
    head = size.to_bytes(4, "big") + b"lcms\x02\x10\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    head += b"".join(map(number, (0.9642, 1, 0.8249)))
    return head + bytes(128 - len(head)) + table + body


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_photograph_of_another_profile_keeps_it_and_every_pixel_not_edited(tmp_path, suffix):
    colours = gradients(1, 32, seed=3)[0]
    colours[:4] = [0, 255, 0]  # a green sRGB does not have
    options = {} if suffix == "png" else {"quality": 100} | ({"subsampling": 0} if suffix == "jpg" else {})
    options |= {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(colours).save(tmp_path / f"p3.{suffix}", icc_profile=display_p3(), **options)
    photo = read_photograph(tmp_path / f"p3.{suffix}")
    assert photo.profile == display_p3()
    assert np.abs(photo.stored.astype(int) - colours).max() <= (0 if suffix != "jpg" else 6)
    expected = np.asarray(ImageCms.profileToProfile(
        Image.fromarray(photo.stored), ImageCms.ImageCmsProfile(io.BytesIO(display_p3())), ImageCms.createProfile("sRGB")
    ))  # fmt: skip
    assert np.array_equal(photo.pixels, expected)
    assert np.abs(photo.pixels.astype(int) - photo.stored).max() > 10
    edited = photo.pixels.copy()
    edited[10:20, 10:20] = [200, 120, 90]
    write_photograph(tmp_path / "out.png", edited, photo)
    again = read_photograph(tmp_path / "out.png")
    assert again.profile == display_p3()
    kept = np.ones((32, 32), bool)
    kept[10:20, 10:20] = False
    assert np.array_equal(again.stored[kept], photo.stored[kept])
    assert np.abs(again.pixels[~kept].astype(int) - [200, 120, 90]).max() <= 3


def test_cmyk_and_grey_and_broken_profiles(tmp_path):
    picture = Image.fromarray(gradients(1, 32)[0])
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture.save(tmp_path / "srgb.png", icc_profile=srgb)
    photo = read_photograph(tmp_path / "srgb.png")
    assert photo.pixels is photo.stored
    assert photo.profile == srgb
    for name, profile in (("broken", b"garbage" * 30), ("mismatched", srgb)):
        picture.convert("CMYK").save(tmp_path / f"{name}.jpg", icc_profile=profile, quality=100)
        assert np.abs(read_image(tmp_path / f"{name}.jpg").astype(int) - np.asarray(picture)).mean() < 3
    picture.save(tmp_path / "broken.png", icc_profile=b"garbage" * 30)
    assert read_photograph(tmp_path / "broken.png").profile == b""
    assert np.array_equal(read_image(tmp_path / "broken.png"), np.asarray(picture))
    with pytest.raises(LatentrotError, match="expected"):
        photo.own_colours(np.zeros((3, 3, 3), np.uint8))


def test_a_folder_is_read_upright_like_every_image(tmp_path):
    picture = gradients(1, 32, seed=5)[0]
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(picture[::-1, ::-1]).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(picture).save(tmp_path / "b.png")
    a, b = FaceFolder(tmp_path).read_crops(["a.png", "b.png"], 32)
    assert np.array_equal(a, b)


def test_an_animation_says_so(tmp_path):
    frames = [Image.fromarray(p) for p in gradients(4, 32)]
    for suffix in ("gif", "webp", "png"):
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], duration=50)
        photo = read_photograph(tmp_path / f"a.{suffix}")
        assert photo.warnings == ("an animation of 4 frames: only the first is used",)
        assert np.abs(photo.pixels.astype(int) - gradients(1, 32)[0]).mean() < 12
    frames[0].save(tmp_path / "still.webp")
    assert read_photograph(tmp_path / "still.webp").warnings == ()


@pytest.mark.parametrize("suffix", ["avif", "heic"])
def test_telephones_formats(tmp_path, suffix):
    if suffix == "heic":
        pytest.importorskip("pillow_heif", reason="HEIC needs the extra heif").register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = gradients(1, 64)[0]
    Image.fromarray(np.rot90(picture)).save(tmp_path / f"a.{suffix}", quality=95, exif=exif.tobytes())
    assert np.abs(read_image(tmp_path / f"a.{suffix}").astype(int) - picture).mean() < 3


def test_200_megapixels_are_read(tmp_path):
    Image.new("1", (16_384, 12_500)).save(tmp_path / "large.png")
    assert read_image(tmp_path / "large.png").shape == (12_500, 16_384, 3)


# ---- before the work --------------------------------------------------------------------------------------------


def test_what_cannot_be_written_is_noticed_before_the_work(tmp_path, capsys):
    write_pictures(tmp_path / "faces", 3)
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "new" / "folder" / "a.csv")
    assert not (tmp_path / "new").exists()
    assert sorted(os.listdir(tmp_path)) == ["faces", "file"]
    with pytest.raises(LatentrotError, match="is a file"):
        check_writable(tmp_path / "file" / "a.csv")
    with pytest.raises(LatentrotError, match="null"):
        check_writable("a\0b")


def test_formats_of_newer_versions_are_refused():
    check_format("1", 1, "a")
    with pytest.raises(LatentrotError, match="update latentrot"):
        check_format("2", 1, "a")
    with pytest.raises(LatentrotError, match="expected a number"):
        check_format("new", 1, "a")


def test_a_photograph_without_a_profile_is_written_as_edited():
    picture = gradients(1, 32)[0]
    photo = Photograph(picture, picture)
    assert photo.own_colours(picture) is picture


# ---- the command line -------------------------------------------------------------------------------------------


def run(*words: str, env: dict[str, str] | None = None) -> subprocess.Popen:
    command = [sys.executable, "-m", "latentrot.cli", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **(env or {})})


@pytest.mark.parametrize("words", [["--help"], ["edit", "--help"]])
def test_a_closed_pipe_is_no_error(words):
    process = run(*words, env={"PYTHONUNBUFFERED": "1"})
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() in (0, 1)


@pytest.mark.parametrize(
    "words",
    [
        "label --data {0}/none --out {0}/l.csv", "label --data {0}/faces --out {0}/file/l.csv",
        "label --data {0}/faces --out {0}/l.txt", "embed --data {0}/none --out {0}/latents",
        "embed --data {0}/faces --out {0}/file/latents", "train model --data {0}/none --out {0}/run",
        "train model --data {0}/faces --out {0}/file/run", "fit-directions --latents {0}/none --out {0}/file/lines",
        "fit-directions --out {0}/lines.safetensors", "label light --data {0}/faces --out {0}/l.parquet",
    ],
)  # fmt: skip
def test_a_mistake_in_the_paths_is_refused_before_anything_slow_is_loaded(tmp_path, words, monkeypatch, capsys):
    write_pictures(tmp_path / "faces", 2)
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    argv = words.format(tmp_path).split()
    code = f"import sys; from latentrot.cli import main; rc = main({argv!r}); sys.exit(9 if 'torch' in sys.modules else rc)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("latentrot: ")
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_photograph_on_its_side_is_set_upright(tmp_path, turns):
    from latentrot.bundles import PORTRAIT  # noqa: PLC0415
    from latentrot.portrait.portrait import open_portrait  # noqa: PLC0415

    portrait = read_image(PORTRAIT)
    Image.fromarray(np.rot90(portrait, turns)).save(tmp_path / "a.png")
    found = open_portrait(tmp_path / "a.png")
    assert np.array_equal(found.image, portrait)
    assert len(found.alignments) == 1
    assert ["not upright" in note for note in found.warnings] == [True] * bool(turns)

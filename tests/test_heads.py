"""Rendered heads: the same image always, the mirror law, signs, folders that every reader takes."""

import dataclasses
import json
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from latentrot.cli import main
from latentrot.data.celeba import FaceFolder
from latentrot.errors import LatentrotError
from latentrot.faces.light.tables import read_light_labels
from latentrot.synthetic.head_model import landmarks, load_head_model
from latentrot.synthetic.ict import import_ict, read_ict
from latentrot.synthetic.sample import HeadConfig, HeadParameters, light_side, mirror, sample_head, with_pose
from latentrot.synthetic.shade import render
from latentrot.synthetic.write import HeadFolder, ViewGrid, parse_degrees, write_heads

SIZE = 24


@pytest.fixture(scope="module")
def ict(shared_data):
    path = shared_data / "ict" / "ict_face_model_light.npz"
    if not path.is_file():
        pytest.skip(f"no face model at {path}")
    return path


@pytest.fixture(scope="module")
def model(ict):
    return load_head_model(ict)


def hairy(index: int) -> HeadParameters:
    return sample_head(5, index, HeadConfig(bald=0.0))


def lit(head: HeadParameters, azimuth: float) -> HeadParameters:
    return dataclasses.replace(head, light=dataclasses.replace(head.light, azimuth_deg=azimuth, elevation_deg=20.0))


# --- one head -------------------------------------------------------------------------------------------------------


def test_a_head_depends_on_seed_and_index_alone():
    first, again = sample_head(3, 7), sample_head(3, 7)
    assert all(
        np.array_equal(getattr(first, f.name), getattr(again, f.name)) for f in dataclasses.fields(HeadParameters)
    )
    for other in (sample_head(3, 8), sample_head(4, 7)):
        assert not np.array_equal(first.identity, other.identity)
        assert first.hair != other.hair
    assert sample_head(3, 7, side="left").light.azimuth_deg < 0 < sample_head(3, 7, side="right").light.azimuth_deg


def test_poses_and_lights_are_spread_as_set():
    heads = [sample_head(0, i, HeadConfig(yaw_sd=30, yaw_max=40)) for i in range(300)]
    yaws = np.array([h.yaw_deg for h in heads])
    assert np.abs(yaws).max() <= 40
    assert 15 < yaws.std() < 25
    sides = pd.Series([light_side(h.light.azimuth_deg) for h in heads]).value_counts()
    assert (sides > 70).all()
    assert len(sides) == 3


@pytest.mark.parametrize("index", range(4))
def test_the_mirrored_head_is_the_mirrored_image_bit_for_bit(model, index):
    head = hairy(index)
    straight, flipped = render(model, head, SIZE, maps=True), render(model, mirror(head), SIZE, maps=True)
    assert np.array_equal(flipped.image, straight.image[:, ::-1])
    assert np.array_equal(flipped.mask, straight.mask[:, ::-1])
    assert np.array_equal(flipped.normals[..., 1:], straight.normals[:, ::-1, 1:])
    assert np.abs(flipped.normals[..., 0].astype(int) + straight.normals[:, ::-1, 0] - 255).max() <= 1
    expected = (straight.landmarks * [-1, 1] + [178, 0])[[1, 0, 2, 4, 3]]
    assert np.allclose(flipped.landmarks, expected, atol=1e-9)
    assert not np.array_equal(flipped.image, straight.image)


def test_the_frame_is_that_of_celeba(model):
    found = np.mean([landmarks(model, with_pose(sample_head(6, i), 0)) for i in range(20)], 0)
    wanted = [[69.5, 112], [108.5, 112], [89, 136], [72, 154], [106, 154]]
    assert np.abs(found - wanted)[[0, 1, 3, 4]].max() < 5


def test_signs_of_the_pose(model):
    head = hairy(1)

    def nose(**pose) -> np.ndarray:
        found = landmarks(model, with_pose(head, **pose))
        return found[2] - found[:2].mean(0)

    level = nose(yaw_deg=0)
    assert nose(yaw_deg=30)[0] > level[0] + 5
    assert nose(yaw_deg=-30)[0] < level[0] - 5
    assert nose(yaw_deg=0, pitch_deg=20)[1] < level[1] - 3
    left, right = landmarks(model, with_pose(head, 0, roll_deg=15))[:2]
    assert right[1] > left[1] + 5  # leaning clockwise, the eye on the right sinks


def test_the_lit_side_is_brighter(model):
    head = with_pose(sample_head(5, 2, HeadConfig(bald=1.0)), 0)
    for azimuth, bright in ((-60, slice(7, 11)), (60, slice(13, 17))):
        columns = render(model, lit(head, azimuth), SIZE).image[8:18].astype(float).mean((0, 2))
        dark = slice(24 - bright.stop, 24 - bright.start)
        assert columns[bright].mean() > 1.3 * columns[dark].mean()


def test_a_shadow_is_cast(model):
    """Light from straight above: the eyes' sockets and the neck are darker than with the same light from the front."""
    head = with_pose(sample_head(5, 2, HeadConfig(bald=1.0)), 0)
    above = dataclasses.replace(head, light=dataclasses.replace(head.light, azimuth_deg=0.0, elevation_deg=75.0))
    front, under = render(model, lit(head, 0.0), SIZE).image, render(model, above, SIZE).image
    forehead, neck = (slice(2, 6), slice(10, 14)), (slice(22, 24), slice(9, 15))
    assert under[forehead].mean() / front[forehead].mean() > 1.3 * under[neck].mean() / front[neck].mean()


def test_maps_agree_with_the_image(model):
    head = dataclasses.replace(with_pose(hairy(3), 0), light=hairy(3).light)
    bald = dataclasses.replace(head, hair=dataclasses.replace(head.hair, bald=True))
    drawn, shaved = render(model, head, SIZE, maps=True), render(model, bald, SIZE, maps=True)
    assert set(np.unique(drawn.mask)) == {0, 1, 2}
    assert set(np.unique(shaved.mask)) == {0, 1}
    assert drawn.mask[14, 12] == 1
    assert drawn.mask[0, 12] == 2
    assert (drawn.normals[drawn.mask == 0] == 128).all()
    length = np.linalg.norm(drawn.normals[drawn.mask > 0] / 127.5 - 1, axis=1)
    assert np.abs(length - 1).max() < 0.05


def test_sizes_out_of_range_are_refused(model):
    with pytest.raises(LatentrotError, match="size 4: expected 8 to 1024"):
        render(model, hairy(0), 4)


# --- folders --------------------------------------------------------------------------------------------------------


def contents(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def made(model, ict, tmp_path_factory):
    out = tmp_path_factory.mktemp("heads")
    heads = HeadFolder(seed=9, count=20, size=SIZE, maps=True, model=ict)
    assert write_heads(heads, out) == 20
    return heads, out


def test_images_do_not_depend_on_the_number_of_processes_or_on_interruptions(made, tmp_path):
    heads, out = made
    write_heads(dataclasses.replace(heads, count=18), tmp_path, jobs=2)
    for number in (3, 17):
        os.unlink(tmp_path / "img_align_celeba" / f"{number:06d}.png")
    assert write_heads(heads, tmp_path) == 4  # two missing, two more asked for
    assert contents(tmp_path) == contents(out)


def test_every_reader_takes_the_folder(made):
    heads, out = made
    folder = FaceFolder(out)
    assert len(folder.ids) == 20
    drawn = render(load_head_model(heads.model), sample_head(9, 4), SIZE)
    assert np.array_equal(folder.read_crop("000005.png", SIZE), drawn.image)
    assert folder.attributes is not None
    assert set(np.unique(folder.attributes)) <= {-1, 1}
    assert folder.identities.is_unique
    lights = read_light_labels(out / "light.csv", image_ids=folder.ids)
    azimuths = pd.read_csv(out / "light.csv", index_col="image_id")["azimuth_deg"]
    assert (lights["light"] == np.select([azimuths < -25, azimuths > 25], ["left", "right"], "center")).all()
    pose = pd.read_csv(out / "pose.csv", index_col="image_id")
    assert pose.loc["000005.png", "yaw_deg"] == pytest.approx(sample_head(9, 4).yaw_deg, abs=1e-4)
    points = pd.read_csv(out / "list_landmarks_align_celeba.csv", index_col="image_id")
    assert points.loc["000005.png"].to_numpy() == pytest.approx(drawn.landmarks.ravel(), abs=0.01)


def test_another_folder_is_refused_with_both_values(made, tmp_path):
    heads, out = made
    with pytest.raises(LatentrotError, match="made with seed 9, not 10"):
        write_heads(dataclasses.replace(heads, seed=10), out)
    with pytest.raises(LatentrotError, match="made with count 20, not 19"):
        write_heads(dataclasses.replace(heads, count=19), out)
    (tmp_path / "img_align_celeba").mkdir()
    (tmp_path / "img_align_celeba" / "somebody.png").write_bytes(b"")
    with pytest.raises(LatentrotError, match="contains images, but"):
        write_heads(heads, tmp_path)


def test_views_are_equal_but_for_the_pose(ict, model):
    views = ViewGrid((-30.0, 0.0, 30.0), (0.0, 20.0), same_light=True)
    folder = HeadFolder(seed=1, count=4, size=SIZE, views=views, model=ict)
    assert folder.image_count == 24
    heads = [folder.head(p) for p in range(24)]
    assert [(h.yaw_deg, h.pitch_deg) for h in heads[:6]] == [(y, p) for p in (0, 20) for y in (-30, 0, 30)]
    rest = [f.name for f in dataclasses.fields(HeadParameters) if f.name not in {"yaw_deg", "pitch_deg"}]
    for head in heads[1:6]:
        assert all(np.array_equal(getattr(head, n), getattr(heads[0], n)) for n in rest)
    assert [light_side(h.light.azimuth_deg) for h in heads[::6]] == ["left", "center", "right", "left"]
    assert heads[0].light == heads[18].light
    assert heads[0].background == heads[18].background
    assert not np.array_equal(heads[0].identity, heads[18].identity)


def test_the_command_line_draws_views(ict, tmp_path, capsys):
    out = tmp_path / "views"
    words = f"heads make --out {out} --count 2 --size 8 --jobs 1 --views --yaws -30:30:30 --model {ict}".split()
    assert main(words) == 0
    assert "rendered 6 of 6 images of 2 heads" in capsys.readouterr().out
    table = pd.read_csv(out / "views.csv")
    assert table["yaw_deg"].tolist() == [-30, 0, 30] * 2
    assert table["head"].tolist() == [0, 0, 0, 1, 1, 1]
    assert FaceFolder(out).identities.tolist() == ["1", "1", "1", "2", "2", "2"]
    assert Image.open(out / "img_align_celeba" / "000001.png").size == (8, 8)
    assert json.loads((out / "heads.json").read_text())["views"]["yaws"] == [-30, 0, 30]


@pytest.mark.parametrize("text", ["", "1:2", "10:0:5", "0:10:0", "a,b"])
def test_invalid_angles_are_refused(text):
    with pytest.raises(LatentrotError, match="angles"):
        parse_degrees(text)


def test_angles():
    assert parse_degrees("-45:45:15") == (-45, -30, -15, 0, 15, 30, 45)
    assert parse_degrees("-20,0,20") == (-20, 0, 20)


# --- the face model -------------------------------------------------------------------------------------------------


def write_obj(path, points, faces=""):
    path.write_text("# a mesh\n" + "".join(f"v {x} {y} {z}\n" for x, y, z in points) + faces)


def test_a_clone_is_converted(tmp_path):
    folder = tmp_path / "clone" / "FaceXModel"
    folder.mkdir(parents=True)
    base = np.arange(15.0).reshape(5, 3)
    texture = "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
    write_obj(
        folder / "generic_neutral_mesh.obj",
        base,
        texture + "usemtl skin\nf 1/1 2/2 3/3 4/4\nusemtl eye\nf 3/1 4/2 5/3\n",
    )
    write_obj(folder / "identity000.obj", base + 1)
    write_obj(folder / "identity001.obj", base * 2)
    write_obj(folder / "jawOpen.obj", base - 0.5)
    out = tmp_path / "face.npz"
    assert main(["heads", "import", str(tmp_path / "clone"), "--out", str(out)]) == 0
    model = import_ict(folder)
    with np.load(out) as written:
        assert all(np.array_equal(written[n], getattr(model, n)) for n in model.__dataclass_fields__)
    assert model.faces.tolist() == [[0, 1, 2], [0, 2, 3], [2, 3, 4]]
    assert model.uvfaces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]
    assert [str(model.mats[m]) for m in model.mat] == ["skin", "skin", "eye"]
    assert np.array_equal(model.ids, np.stack([np.ones((5, 3)), base]).astype(np.float16))
    assert model.expr_names.tolist() == ["jawOpen"]
    assert np.array_equal(model.expr[0], np.full((5, 3), -0.5))
    with pytest.raises(LatentrotError, match="has 5 vertices, 2 identity and 1 expression modes"):
        read_ict(out)


def test_invalid_clones_are_refused(tmp_path):
    with pytest.raises(LatentrotError, match="no generic_neutral_mesh"):
        import_ict(tmp_path)
    write_obj(tmp_path / "generic_neutral_mesh.obj", np.zeros((3, 3)), "f 1 2 3\n")
    with pytest.raises(LatentrotError, match="0 identity and 0 expression meshes"):
        import_ict(tmp_path)
    for name in ("identity000.obj", "jawOpen.obj"):
        write_obj(tmp_path / name, np.zeros((2, 3)))
    with pytest.raises(LatentrotError, match="has 2 vertices"):
        import_ict(tmp_path)
    with pytest.raises(LatentrotError, match="heads import CLONE"):
        read_ict(tmp_path / "none.npz")

"""A recognition set, augmented: cameras, landmarks, depth, normals, crops and meshes of turned views."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from planted import head_of, planted

from latentrot import cli
from latentrot.bundles import HOME, PORTRAIT
from latentrot.errors import LatentrotError
from latentrot.faces.recognition import TEMPLATE, recognition_crop
from latentrot.geometry import turn_head
from latentrot.geometry.camera import AXES, camera_of, frontal, landmarks_at, project, view_matrix
from latentrot.geometry.draw import draw
from latentrot.geometry.export import export_head
from latentrot.geometry.maps import depth_as_16_bit, depth_of, normals_as_16_bit, surface_maps, write_16_bit
from latentrot.portrait.annotations import Annotations

needs_networks = pytest.mark.skipif(not (HOME / "face").is_dir(), reason="no networks to find landmarks with")


@pytest.fixture(scope="module")
def head():
    return head_of(planted(yaw=12, pitch=-5))


def read_obj(path):
    """Points, texture places, (t, 3, 2) corners and the texture of an OBJ, by its own words."""
    words = [line.split() for line in path.read_text().splitlines()]
    points = np.array([w[1:] for w in words if w[0] == "v"], float)
    places = np.array([w[1:] for w in words if w[0] == "vt"], float)
    corners = np.array([[c.split("/") for c in w[1:]] for w in words if w[0] == "f"], int) - 1
    material = path.parent / next(" ".join(w[1:]) for w in words if w[0] == "mtllib")
    name = next(line.split(None, 1)[1] for line in material.read_text().splitlines() if line.startswith("map_Kd"))
    return points, places, corners, np.asarray(Image.open(path.parent / name).convert("RGB"))


def shown_by(camera, points, corners, places, texture, size):
    """A textured mesh as a camera sees it: (h, w, 3) float32, and where it is seen."""
    camera = np.array(camera)
    depth = np.cross(camera[0, :3], camera[1, :3])  # towards the viewer: right and down make away
    placed = np.column_stack([project(camera, points), -points @ depth / np.linalg.norm(depth)])
    assert np.array_equal(corners[..., 0], corners[..., 1])
    uv = places * [texture.shape[1], -texture.shape[0]] + [0, texture.shape[0]]
    at, shown, _ = draw(placed, corners[:, ::-1, 0], uv, np.ones(len(corners)), size)
    return cv2.remap(texture, at - np.float32(0.5), None, cv2.INTER_LINEAR), shown > 0  # type: ignore[call-overload]


# ---- cameras and meshes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [(0, 0, 0), (35, 0, 0), (-50, 15, 0), (10, -20, 12)])
def test_a_camera_projects_the_frontal_mesh_where_the_turned_head_is(head, turn):
    marks = frontal(head, (head.landmarks - head.axis) / head.region.width * AXES)
    seen = project(camera_of(head, view_matrix(head, *turn)), marks)
    assert np.allclose(seen, turn_head(head, *turn).landmarks)
    assert np.allclose(seen, landmarks_at(head, view_matrix(head, *turn)))


@pytest.mark.parametrize("pose", ["frontal", "photograph"])
def test_an_exported_mesh_brings_the_pixels_of_the_photograph_back(head, pose, tmp_path):
    files = export_head(head, tmp_path / "a head.obj", pose)
    assert [f.name for f in files] == ["a head.obj", "a head.mtl", "a head.texture.png", "a head.camera.json"]
    camera = json.loads(files[-1].read_text())
    size = camera["width"], camera["height"]
    assert size == head.photograph.shape[1::-1]
    points, places, corners, texture = read_obj(files[0])
    image, there = shown_by(camera["camera"], points, corners, places, texture, size)
    face = cv2.erode((planted(yaw=12, pitch=-5).face & there).astype(np.uint8), np.ones((9, 9))) > 0
    off = np.abs(image[face].astype(float) - head.photograph[face])
    assert face.sum() > 3000
    assert np.median(off) < 3
    moved = np.roll(image, 2, axis=1)  # two pixels aside it would not be
    assert np.abs(moved[face].astype(float) - head.photograph[face]).mean() > 2 * off.mean()


def test_the_frontal_mesh_looks_at_the_viewer(head, tmp_path):
    points = {
        pose: read_obj(export_head(head, tmp_path / f"{pose}.obj", pose)[0])[0] for pose in ("frontal", "photograph")
    }
    apart = np.linalg.norm(points["frontal"][:50] - points["frontal"][50:100], axis=1)
    assert np.allclose(
        apart, np.linalg.norm(points["photograph"][:50] - points["photograph"][50:100], axis=1), atol=1e-4
    )
    eyes = frontal(head, (head.landmarks[[36, 45]] - head.axis) / head.region.width * AXES)
    assert abs(eyes[0, 2] - eyes[1, 2]) < 0.02
    assert abs(head.landmarks[36, 2] - head.landmarks[45, 2]) / head.region.width > 0.05


@pytest.mark.parametrize("suffix", [".glb", ".ply"])
def test_meshes_in_one_file_hold_the_same_points(head, suffix, tmp_path):
    trimesh = pytest.importorskip("trimesh", reason="writing them needs trimesh")
    export_head(head, tmp_path / f"head{suffix}", "frontal")
    mesh = trimesh.load(tmp_path / f"head{suffix}", process=False, force="mesh")
    points = read_obj(export_head(head, tmp_path / "head.obj", "frontal")[0])[0]
    assert np.allclose(mesh.vertices, points, atol=1e-5)
    if suffix == ".ply":
        assert np.ptp(mesh.visual.vertex_colors[:, :3], axis=0).min() > 60


@needs_networks
def test_a_mesh_never_replaces_its_photograph(tmp_path, capsys):
    photo = tmp_path / "photo.obj"
    photo.write_bytes(PORTRAIT.read_bytes())
    assert cli.main(["mesh", str(photo), "--out", str(photo)]) == 2
    assert "replace the photograph" in capsys.readouterr().err
    assert photo.read_bytes() == PORTRAIT.read_bytes()


# ---- depth and normals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("yaw", [0, 40])
def test_depth_and_normals_are_those_of_the_turned_head(head, yaw, tmp_path):
    turn = view_matrix(head, yaw)
    depth, normals = surface_maps(head, turn)
    there = np.isfinite(depth)
    assert np.array_equal(there, normals.any(2))
    assert np.allclose(np.linalg.norm(normals[there], axis=1), 1, atol=1e-5)
    nose = (head.landmarks[30] - head.axis) @ turn.T / head.region.width
    column, row = landmarks_at(head, turn)[30].astype(int)
    assert depth[row, column] == pytest.approx(nose[2], abs=0.05)
    for axis, sign in ((1, 1), (0, -1)):  # a head is convex
        assert sign * np.corrcoef(np.nonzero(there)[axis], normals[there][:, 1 - axis])[0, 1] > 0.6
    # the slope of the depth is that of the normals
    width = head.region.width / head.region.scale
    inner = cv2.erode(there.astype(np.uint8), np.ones((15, 15))) > 0
    across = cv2.GaussianBlur(np.gradient(np.nan_to_num(depth), axis=1) * width, (0, 0), 3)
    slope = cv2.GaussianBlur(-normals[..., 0] / np.maximum(normals[..., 2], 0.2), (0, 0), 3)
    assert np.corrcoef(across[inner], slope[inner])[0, 1] > 0.9
    # 16 bits hold both
    write_16_bit(tmp_path / "d.png", depth_as_16_bit(depth))
    write_16_bit(tmp_path / "n.png", normals_as_16_bit(normals))
    back = depth_of(cv2.imread(str(tmp_path / "d.png"), cv2.IMREAD_UNCHANGED))
    assert np.allclose(back, depth, atol=1 / 16_000, equal_nan=True)
    raw = cv2.imread(str(tmp_path / "n.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert raw.dtype == np.uint16
    assert np.allclose((raw[there] - 32_768.0) / 32_767, normals[there], atol=1e-4)


# ---- crops for recognition --------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [112, 224])
def test_the_five_landmarks_lie_on_the_template(side):
    angle, scale, shift = np.radians(20), 2.5, np.array([130, 90])
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    five = TEMPLATE @ linear.T + shift
    for k, (x, y) in enumerate(five):
        image = np.zeros((500, 500, 3), np.float32)
        rows, columns = np.mgrid[:500, :500] + 0.5
        image[:] = 250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 50)[..., None]
        crop = recognition_crop(image.round().astype(np.uint8), five, side)
        assert crop.shape == (side, side, 3)
        weight = crop[..., 0] / crop[..., 0].sum()
        rows, columns = np.mgrid[:side, :side]
        centre = np.array([(weight * columns).sum(), (weight * rows).sum()])
        assert np.allclose(centre, (TEMPLATE[k] + 0.5) * side / 112 - 0.5, atol=0.1)


def test_what_cannot_be_annotated_is_refused():
    with pytest.raises(LatentrotError, match="--crops 8"):
        Annotations(crops=8).check()
    with pytest.raises(LatentrotError, match="--also mood"):
        Annotations(("mood",)).check()


# ---- a folder a person ------------------------------------------------------------------------------------------


@pytest.fixture
def people(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ann", "bob"):
        (tmp_path / "people" / name).mkdir(parents=True)
        with Image.open(PORTRAIT) as portrait:
            portrait.convert("RGB").resize((256, 256)).save(tmp_path / "people" / name / "one.jpg", quality=95)
    return tmp_path


@needs_networks
def test_a_folder_a_person_becomes_a_set(people):
    order = ["edit", "people", "--sweep", "-20:20:3", "--rotator", "mesh", "--out", "views"]
    assert cli.main([*order, "--also", "landmarks", "camera", "depth", "normals", "--crops", "112"]) == 0
    views = pd.read_csv(people / "views/views.csv")
    assert len(views) == 6
    assert list(views["person"]) == ["ann"] * 3 + ["bob"] * 3
    for column in ("file", "crop", "depth", "normals"):
        assert all((people / "views" / name).is_file() for name in views[column])
    with Image.open(people / "views" / views["crop"][0]) as crop:
        assert crop.size == (112, 112)
        assert crop.info["Software"] == "latentrot"
    assert (people / "views/ann/one_yaw+20.png").is_file()
    marks = pd.read_csv(people / "views/landmarks.csv", index_col="file")
    assert list(marks.index) == list(views["file"])
    assert marks.shape == (6, 136)
    nose = marks.loc[["ann/one_yaw-20.png", "ann/one_yaw+0.png", "ann/one_yaw+20.png"], "x30"].diff().dropna()
    assert (nose > 3).all()
    cameras = json.loads((people / "views/cameras.json").read_text())
    assert list(cameras) == list(views["file"])
    # without them, the next run takes them away
    assert cli.main(order) == 0
    assert not (people / "views/landmarks.csv").exists()
    assert not (people / "views/crops/ann").exists()


@needs_networks
def test_a_single_photograph_and_a_single_turn_are_a_set_too(people, capsys):
    photo = people / "people/ann/one.jpg"
    assert cli.main(["edit", str(photo), "--deg", "0", "--rotator", "mesh", "--crops", "224", "--out", "one"]) == 0
    (row,) = pd.read_csv(people / "one/views.csv").to_dict("records")
    with Image.open(people / "one" / row["file"]) as view, Image.open(photo) as source:
        assert np.array_equal(np.asarray(view), np.asarray(source))
    assert cli.main(["edit", "people", "--deg", "5", "--rotator", "mesh", "--out", "people/out"]) == 2
    assert "whose subfolders are read" in capsys.readouterr().err

"""Pose from another image: a head takes the pose of a photograph, or follows the motion of a video."""

import json
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, ImageOps

import latentrot
from latentrot import cli
from latentrot.bundles import HOME, PORTRAIT
from latentrot.data.animation import open_animation, write_animation
from latentrot.data.images import read_image, write_image
from latentrot.data.metadata import read_metadata
from latentrot.errors import LatentrotError
from latentrot.portrait.follow import REACH, Follower, Motion, open_motion, read_motion
from latentrot.portrait.photograph import edit_portrait
from latentrot.portrait.portrait import open_portrait
from latentrot.portrait.pose import open_pose, pose_of
from latentrot.portrait.turns import Turn
from latentrot.rotators.mesh.rotator import MeshRotator

pytestmark = pytest.mark.skipif(not (HOME / "face").is_dir(), reason="no networks to find landmarks with")
YAWS = (0, 6, 12, 18, 18.5, 18)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """photo.png, other.png in another pose, drive.webp in which the head turns by `YAWS`, mirrored.png and mirrored.webp."""
    made = tmp_path_factory.mktemp("poses")
    with Image.open(PORTRAIT) as portrait:
        portrait.convert("RGB").resize((256, 256), Image.Resampling.LANCZOS).save(made / "photo.png")
    turns = [*map(Turn, YAWS), Turn(15, -8, 10)]
    edited = edit_portrait(open_portrait(made / "photo.png"), MeshRotator(), turns)
    images = [edited.image_at(i) for i in range(len(turns))]
    write_image(made / "other.png", images[-1])
    ImageOps.mirror(Image.fromarray(images[-1])).save(made / "mirrored.png")
    write_animation(made / "drive.webp", images[:-1], 200)
    write_animation(made / "mirrored.webp", [np.ascontiguousarray(v[:, ::-1]) for v in images[:-1]], 200)
    return made


# ---- a photograph's pose ----------------------------------------------------------------------------------------


def test_a_head_takes_the_pose_of_another(folder):
    edited = latentrot.edit(folder / "photo.png", pose_of=folder / "other.png", rotator="mesh")
    write_image(folder / "taken.png", edited.image)
    rotator = MeshRotator()
    poses = {name: pose_of(open_pose(folder / f"{name}.png"), rotator) for name in ("photo", "other", "taken")}
    before, after = (poses[name].to(poses["other"]) for name in ("photo", "taken"))
    assert abs(after.yaw) < 0.4 * abs(before.yaw)
    assert abs(after.pitch) < 0.7 * abs(before.pitch)
    assert abs(after.roll) < 0.4 * abs(before.roll)
    assert edited.report["requested_roll_deg"] == pytest.approx(before.roll, abs=0.01)


def test_its_own_pose_changes_nothing(folder):
    edited = latentrot.edit(folder / "photo.png", pose_of=folder / "photo.png", rotator="mesh")
    assert edited.faces[0].turns == (Turn(0.0, 0.0, 0.0),)
    assert np.array_equal(edited.image, read_image(folder / "photo.png"))


def test_the_pose_of_a_mirrored_face_is_mirrored(folder):
    there, mirrored = (pose_of(open_pose(folder / f"{n}.png"), MeshRotator()) for n in ("other", "mirrored"))
    assert mirrored.yaw == pytest.approx(-there.yaw, abs=1)
    assert mirrored.pitch == pytest.approx(there.pitch, abs=1)
    assert mirrored.roll == pytest.approx(-there.roll, abs=1)


def test_the_command_takes_a_pose_and_refuses_two(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    order = ["edit", str(folder / "photo.png"), "--pose-of", str(folder / "other.png"), "--rotator", "mesh"]
    assert cli.main([*order, "--out", "a.png", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["requested_deg"] > 8
    assert report["requested_roll_deg"] > 5
    assert json.loads(read_metadata(tmp_path / "a.png")["latentrot"])["asked_roll_deg"] == [
        report["requested_roll_deg"]
    ]
    for more, words in (
        (["--deg", "5"], "--pose-of and --deg exclude each other"),
        (["--follow", "x.mp4"], "--pose-of and --follow exclude each other"),
        (["--crop-only"], "need the whole photograph"),
    ):
        assert cli.main([*order, *more]) == 2
        assert words in capsys.readouterr().err
    assert cli.main(["edit", str(folder / "photo.png"), "--pose-of", "gone.png"]) == 2
    assert "gone.png" in capsys.readouterr().err
    with pytest.raises(LatentrotError, match="pose_of excludes yaw"):
        latentrot.edit(folder / "photo.png", pose_of=folder / "other.png", yaw=5)


# ---- a video's motion -------------------------------------------------------------------------------------------


def motion_of(path) -> Motion:
    return read_motion(open_motion(path), MeshRotator())


def test_motion_is_measured_from_where_it_begins_and_mirrors(folder):
    motion, mirrored = motion_of(folder / "drive.webp"), motion_of(folder / "mirrored.webp")
    assert motion.at(0.0) == Turn()
    assert len(motion.frames) == len(motion.times) == len(YAWS)
    yaws = motion.poses[:, 0]
    assert (np.diff(yaws) > -0.5).all()
    assert yaws[-1] == pytest.approx(YAWS[-1], abs=5)
    assert np.allclose(mirrored.poses * [-1, 1, -1], motion.poses, atol=1.5)
    assert motion.at(99.0) == motion.at(float(motion.times[-1]))


def test_a_still_head_follows(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    order = ["edit", str(folder / "photo.png"), "--follow", str(folder / "drive.webp"), "--rotator", "mesh"]
    assert cli.main([*order, "--out", "follows.webp", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["frames"] == report["face_seen"] == len(YAWS)
    assert report["held"] == 0
    assert report["yaws_deg"][-1] - report["yaw_before_deg"] > 8
    shown = open_animation(tmp_path / "follows.webp")
    frames = list(shown.frames)
    assert [float(f.seconds) for f in frames] == pytest.approx([0.2] * len(YAWS))
    # the first frame is the photograph, encoded once
    source = read_image(folder / "photo.png").astype(int)
    assert np.abs(frames[0].pixels - source).mean() < 3
    assert json.loads(read_metadata(tmp_path / "follows.webp")["latentrot"])["follows"] == "drive.webp"
    # its report repeats it
    (tmp_path / "r.json").write_text(json.dumps(report))
    assert cli.main(["edit", str(folder / "photo.png"), "--edit", "r.json", "--out", "again.webp", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["edit"] == report["edit"]
    again = list(open_animation(tmp_path / "again.webp").frames)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(again, frames, strict=True))
    for more, words in (
        (["--out", "x.png"], "writes a video or an animation"),
        (["--out", "x.webp", "--face", "all"], "edits only one face"),
        (["--out", "x.webp", "--crops", "112"], "--crops is not supported with --follow"),
    ):
        assert cli.main([*order, *more]) == 2
        assert words in capsys.readouterr().err
    assert cli.main([*order[:3], str(folder / "photo.png"), "--out", "x.webp"]) == 2
    assert "expected a video or an animated image" in capsys.readouterr().err
    assert cli.main(["edit", str(folder), *order[2:]]) == 2
    assert "one photograph or one video" in capsys.readouterr().err
    assert not (tmp_path / "x.webp").exists()


def test_a_moving_head_is_turned_along(folder, tmp_path, capsys):
    """A head that turns by itself and follows the mirrored motion stands still."""
    order = ["edit", str(folder / "drive.webp"), "--follow", str(folder / "mirrored.webp"), "--rotator", "mesh"]
    assert cli.main([*order, "--out", str(tmp_path / "still.webp"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["turned"] == len(YAWS)
    assert report["follows"] == "mirrored.webp"
    yaws = motion_of(tmp_path / "still.webp").poses[:, 0]
    assert np.abs(yaws).max() < 0.5 * YAWS[-1]


def test_beyond_the_reach_it_holds_and_says_so(folder):
    frames = tuple((Fraction(i, 10), Fraction(1, 10)) for i in range(5))
    poses = np.array([[0, 0, 0], [30, 0, 0], [70, 50, 0], [90, 0, -50], [-10, 0, 0]], float)
    follower = Follower(Motion(folder / "drive.webp", frames, np.arange(5) / 10, poses, 10.0))
    turns = [follower.turn(float(start)) for start, _ in frames]
    assert turns == [Turn(), Turn(30), Turn(REACH.yaw, REACH.pitch), Turn(REACH.yaw, 0, -REACH.roll), Turn(-10)]
    assert follower.clamped == 2
    assert {t.yaw for t in follower.turns} == {0, 30, REACH.yaw, -10}
    assert {t.pitch for t in follower.turns} == {0, REACH.pitch}
    assert follower.frames == len(frames)  # the preview is not counted
    assert "2 of 5 frames are clamped" in follower.warnings[0]
    narrow = Follower(follower.motion, (-5.0, 25.0))
    assert [narrow.turn(float(start)).yaw for start, _ in frames] == [0, 25, 25, 25, -5]


def test_a_video_without_a_face_cannot_be_followed(tmp_path):
    write_animation(tmp_path / "grey.webp", [np.full((80, 80, 3), 90 + 40 * i, np.uint8) for i in range(3)], 100)
    with pytest.raises(LatentrotError, match="no face found in its 3 frames"):
        motion_of(tmp_path / "grey.webp")

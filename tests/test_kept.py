"""What an edit keeps of its photograph beside the pixels, what it refuses before the work, and a photograph that lies."""

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image, ImageOps
from tiny import gradients, write_pictures

from latentrot.bundles import PORTRAIT
from latentrot.cli import main
from latentrot.data.images import read_photograph, write_photograph
from latentrot.data.metadata import read_metadata
from latentrot.errors import LatentrotError
from latentrot.portrait.folder import check_folders
from latentrot.portrait.interactive import open_shrunk
from latentrot.portrait.results import check_out, synthetic_metadata
from latentrot.portrait.video import check_video_out

IFD = ExifTags.IFD


def camera_exif(orientation: int = 6) -> Image.Exif:
    """As a camera writes it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Maker", "Camera 1"
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.ImageDescription] = "as it was"
    exif[ExifTags.Base.DateTime] = "2024:05:06 07:08:09"
    shot = exif.get_ifd(IFD.Exif)
    shot[ExifTags.Base.DateTimeOriginal], shot[ExifTags.Base.FNumber] = "2024:05:06 07:08:09", 2.8
    shot[ExifTags.Base.ExifImageWidth], shot[ExifTags.Base.MakerNote] = 24, b"secret" * 9
    exif[IFD.Exif] = shot
    place = exif.get_ifd(IFD.GPSInfo)
    place[ExifTags.GPS.GPSLatitudeRef], place[ExifTags.GPS.GPSLatitude] = "N", (50.0, 3.0, 4.5)
    exif[IFD.GPSInfo] = place
    return exif


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
class TestExif:
    def test_camera_date_and_place_are_kept_and_the_image_is_upright(self, tmp_path, suffix):
        picture = Image.fromarray(gradients(1, 24)[0][:, :18])
        picture.save(tmp_path / "in.jpg", exif=camera_exif(), quality=95)
        photo = read_photograph(tmp_path / "in.jpg")
        assert photo.pixels.shape == (18, 24, 3)  # stored 24 high: turned by a quarter
        out = tmp_path / f"out{suffix}"
        write_photograph(out, photo.pixels, photo, synthetic_metadata({"model": "m"}))
        with Image.open(out) as written:
            found = written.getexif()
            assert written.size == (24, 18)
            assert (found[ExifTags.Base.Make], found[ExifTags.Base.Model]) == ("Maker", "Camera 1")
            assert found.get(ExifTags.Base.Orientation, 1) == 1
            shot, place = found.get_ifd(IFD.Exif), found.get_ifd(IFD.GPSInfo)
            assert shot[ExifTags.Base.DateTimeOriginal] == "2024:05:06 07:08:09"
            assert float(shot[ExifTags.Base.FNumber]) == pytest.approx(2.8)
            assert [float(v) for v in place[ExifTags.GPS.GPSLatitude]] == [50.0, 3.0, 4.5]
            assert not {ExifTags.Base.MakerNote, ExifTags.Base.ExifImageWidth} & set(shot)
        assert "synthetic" in read_metadata(out)["Description"]
        again = read_photograph(out).pixels.astype(int)
        assert np.abs(again - photo.pixels).max() < 40  # not turned twice

    @pytest.mark.parametrize("exif", [b"", b"Exif\0\0broken", b"Exif\0\0" + b"II*\0" + b"\xff" * 40])
    def test_missing_or_broken_metadata_are_ignored(self, tmp_path, suffix, exif):
        Image.fromarray(gradients(1, 24)[0]).save(tmp_path / "in.jpg", exif=exif)
        photo = read_photograph(tmp_path / "in.jpg")
        write_photograph(tmp_path / f"out{suffix}", photo.pixels, photo, synthetic_metadata({"model": "m"}))
        assert "synthetic" in read_metadata(tmp_path / f"out{suffix}")["Description"]

    def test_thumbnails_of_the_original_are_removed(self, tmp_path, suffix):
        inside = tmp_path / "small.jpg"
        Image.fromarray(gradients(1, 16, 3)[0]).save(inside, comment=b"the face as it was")
        exif = camera_exif(1)
        exif.get_ifd(IFD.IFD1).update({0x0201: 8, 0x0202: len(inside.read_bytes())})
        shot = exif.get_ifd(IFD.Exif)
        shot[ExifTags.Base.MakerNote] = inside.read_bytes()
        exif[IFD.Exif] = shot
        Image.fromarray(gradients(1, 24)[0]).save(tmp_path / "in.jpg", exif=exif)
        photo = read_photograph(tmp_path / "in.jpg")
        write_photograph(tmp_path / f"out{suffix}", photo.pixels, photo, synthetic_metadata({"model": "m"}))
        assert b"the face as it was" in (tmp_path / "in.jpg").read_bytes()
        assert b"the face as it was" not in (tmp_path / f"out{suffix}").read_bytes()


class TestWritable:
    """Refused before the work: every form of --out, in a place that is read-only or below a file."""

    @pytest.fixture
    def read_only(self, tmp_path):
        folder = tmp_path / "fixed"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(folder)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here")
        yield folder
        subprocess.run(["umount", "--lazy", str(folder)], check=True)

    @pytest.mark.parametrize(
        "name", ["out.png", "out.jpg", "out.webp", "out.gif", "out.mp4", "results", "new/results", ""]
    )
    def test_a_photograph(self, read_only, name):
        if name.endswith(".mp4"):
            pytest.importorskip("av")
        with pytest.raises(LatentrotError, match="no permission to write"):
            check_out(read_only / name, PORTRAIT, 1)

    def test_a_folder_and_a_video(self, read_only, tmp_path):
        with pytest.raises(LatentrotError, match="no permission to write"):
            check_folders(tmp_path, read_only / "results")
        with pytest.raises(LatentrotError, match="no permission to write"):
            check_video_out(read_only / "out.gif", tmp_path / "in.gif")

    def test_the_command_refuses_before_detection(self, read_only, capsys, monkeypatch):
        monkeypatch.setattr("latentrot.portrait.portrait.open_portrait", lambda *_: pytest.fail("looked for a face"))
        for name in ("out.png", "results"):
            assert main(["edit", str(PORTRAIT), "--deg", "10", "--out", str(read_only / name)]) == 2
            assert "no permission to write" in capsys.readouterr().err

    def test_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(LatentrotError, match="is a file"):
            check_out(tmp_path / "file" / "results", PORTRAIT, 1)


def test_lights_of_other_images_are_refused_before_the_work(tmp_path, capsys, monkeypatch):
    faces = write_pictures(tmp_path / "faces", 3)
    pd.DataFrame({"image_id": ["100001.jpg", "100002.jpg"], "light": "left"}).to_csv(tmp_path / "l.csv", index=False)
    monkeypatch.setattr("latentrot.faces.table.label_folder", lambda *_, **__: pytest.fail("labelled all the same"))
    command = ["label", "--data", str(faces), "--light", str(tmp_path / "l.csv"), "--out", str(tmp_path / "o.csv")]
    assert main(command) == 2
    err = capsys.readouterr().err
    for words in ("l.csv", "none of the 3 images", "000.png", "100001.jpg"):
        assert words in err
    assert err.count("\n") == 1
    assert not Path(tmp_path / "o.csv").exists()


def test_the_page_sets_a_photograph_upright_and_says_so(tmp_path):
    portrait = ImageOps.fit(Image.open(PORTRAIT).convert("RGB"), (360, 360), centering=(0.5, 0.2))
    portrait.save(tmp_path / "up.png")
    portrait.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "side.png")
    upright, lying = open_shrunk(tmp_path / "up.png"), open_shrunk(tmp_path / "side.png")
    assert np.array_equal(upright.image, lying.image)
    assert upright.warnings == ()
    assert "90 degrees clockwise" in lying.warnings[0]

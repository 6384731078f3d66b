"""What a photograph says of itself is kept, and honoured, alike in stills, animated images and videos."""

import io
import json
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from latentrot.data.animation import open_animation, write_animation
from latentrot.data.images import read_photograph, write_photograph
from latentrot.data.metadata import history_of, kept_rights, read_metadata
from latentrot.data.profiles import ADOBE, ADOBE_GAMMA, CURVES, PRIMARIES, rgb_profile
from latentrot.data.video import VideoFrame, encode_mp4, open_video
from latentrot.errors import LatentrotError
from latentrot.portrait.results import previous_edit, synthetic_metadata
from latentrot.rotators.baselines import MirrorRotator, NothingRotator
from latentrot.rotators.protocol import rotate_many

RGB = np.dstack(np.meshgrid(np.linspace(20, 235, 24), np.linspace(30, 220, 20))).astype(np.uint8)
IMAGE = np.dstack([RGB, RGB[..., :1] // 2 + 60])
ADOBE_PROFILE = rgb_profile("Adobe RGB (1998)", ADOBE, lambda v: v**ADOBE_GAMMA)


def as_srgb(image: np.ndarray, profile: bytes) -> np.ndarray:
    """An image of a profile in sRGB, by LittleCMS alone."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return np.asarray(ImageCms.profileToProfile(Image.fromarray(image), source, ImageCms.createProfile("sRGB")))


def png(path: Path, **chunks: bytes) -> Path:
    """IMAGE as a PNG with chunks before its pixels."""
    Image.fromarray(IMAGE).save(path)
    content = path.read_bytes()
    at = 8 + 25
    extra = b"".join(
        struct.pack(">I", len(c)) + n.encode() + c + struct.pack(">I", zlib.crc32(n.encode() + c))
        for n, c in chunks.items()
    )
    path.write_bytes(content[:at] + extra + content[at:])
    return path


def test_a_profile_we_write_is_the_space_it_names():
    """sRGB's own primaries and curve change nothing; Adobe RGB's known numbers come out."""
    assert np.abs(as_srgb(IMAGE, rgb_profile("x", PRIMARIES[1], CURVES[13])).astype(int) - IMAGE).max() <= 1
    # computed by hand from the specification: Adobe RGB (200, 100, 50) is sRGB (227, 100, 43)
    found = as_srgb(np.full((1, 1, 3), (200, 100, 50), np.uint8), ADOBE_PROFILE)[0, 0]
    assert np.abs(found.astype(int) - adobe_to_srgb((200, 100, 50))).max() <= 1


def adobe_to_srgb(values: tuple[int, int, int]) -> np.ndarray:
    """Adobe RGB 8-bit values -> sRGB, by the specifications' matrices."""
    light = (np.array(values) / 255) ** ADOBE_GAMMA
    to_xyz = np.array([[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]])
    to_rgb = np.array([[3.24045, -1.53714, -0.49853], [-0.96927, 1.87601, 0.04156], [0.05564, -0.20403, 1.05723]])
    linear = (to_rgb @ (to_xyz @ light)).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


@pytest.mark.parametrize(
    ("name", "chunks", "profile"),
    [
        ("linear", {"gAMA": struct.pack(">I", 100_000)}, rgb_profile("x", PRIMARIES[1], CURVES[8])),
        ("P3", {"cICP": bytes([12, 13, 0, 1])}, rgb_profile("x", PRIMARIES[12], CURVES[13])),
        (
            "2020",
            {"cICP": bytes([9, 1, 0, 1]), "gAMA": struct.pack(">I", 45455)},
            rgb_profile("x", PRIMARIES[9], CURVES[1]),
        ),
        ("usual", {"gAMA": struct.pack(">I", 45455)}, b""),
        ("sRGB", {"sRGB": b"\0", "gAMA": struct.pack(">I", 100_000)}, b""),
        ("sRGB by cICP", {"cICP": bytes([1, 13, 0, 1])}, b""),
    ],
)
def test_colour_chunks_of_a_png_are_used(tmp_path, name, chunks, profile):
    """And the edited one's unedited pixels are the file's own, in a profile that says the same."""
    photo = read_photograph(png(tmp_path / "a.png", **chunks))
    assert (photo.stored == IMAGE).all()
    assert bool(photo.profile) == bool(profile), name
    expected = as_srgb(IMAGE, profile) if profile else IMAGE
    assert np.abs(photo.pixels.astype(int) - expected).max() <= 1
    write_photograph(tmp_path / "b.png", photo.pixels, photo)
    again = read_photograph(tmp_path / "b.png")
    assert (again.stored == IMAGE).all()
    assert np.abs(again.pixels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("transfer", "white"), [(16, 0.5807), (18, 0.75)])
def test_high_dynamic_range_is_shown_up_to_white(tmp_path, transfer, white):
    """Reference white is white, and what is brighter is clipped, which a note says; the file's own values stay."""
    light = CURVES[transfer](np.array([0.0, white, 1.0]))
    assert light == pytest.approx([0, 1, 1], abs=0.01)
    photo = read_photograph(png(tmp_path / "a.png", cICP=bytes([9, transfer, 0, 1])))
    assert photo.warnings[0].startswith("high dynamic range (")
    assert np.abs(photo.pixels.astype(int) - as_srgb(IMAGE, photo.profile)).max() <= 1
    write_photograph(tmp_path / "b.png", photo.pixels, photo)
    assert (read_photograph(tmp_path / "b.png").stored == IMAGE).all()


def test_adobe_rgb_by_exif(tmp_path):
    """R03 without a profile: cameras write it so."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 0xFFFF
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    Image.fromarray(IMAGE).save(tmp_path / "a.jpg", quality=100, subsampling=0, exif=exif)
    photo = read_photograph(tmp_path / "a.jpg")
    assert np.abs(photo.pixels.astype(int) - as_srgb(photo.stored, ADOBE_PROFILE)).max() <= 1
    assert np.abs(photo.pixels.astype(int) - photo.stored).max() > 10


XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:r="http://ns.adobe.com/xap/1.0/rights/"
 xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" r:Marked="True" crs:Exposure="+1">
<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">© A &amp; B</rdf:li></rdf:Alt></dc:rights>
<dc:creator><rdf:Seq><rdf:li>Jane</rdf:li></rdf:Seq></dc:creator></rdf:Description></rdf:RDF></x:xmpmeta>"""


@pytest.mark.parametrize("source", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("target", [".jpg", ".png", ".webp"])
def test_rights_are_kept(tmp_path, source, target):
    """Who made it and what may be done with it; not how it was developed; again in an edit of the edit."""
    if source == ".png":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP)
        Image.fromarray(IMAGE).save(tmp_path / "a.png", pnginfo=info)
    else:
        Image.fromarray(IMAGE).save(tmp_path / f"a{source}", xmp=XMP.encode())
    path = tmp_path / f"a{source}"
    for turn in range(2):
        photo = read_photograph(path)
        assert "© A &amp; B" in photo.rights
        assert all(word in photo.rights for word in ("Jane", "Marked", "True"))
        assert "Exposure" not in photo.rights
        path = tmp_path / f"b{turn}{target}"
        write_photograph(path, photo.pixels, photo, synthetic_metadata({"model": "x"}))
    assert read_metadata(path)["Software"] == "latentrot"


@pytest.mark.parametrize("xmp", [b"", b"<", b"no xml", b"\xff\xfe\0", b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>"])
def test_broken_xmp_is_ignored(tmp_path, xmp):
    """Nor is one that defines entities."""
    Image.fromarray(IMAGE).save(tmp_path / "a.jpg", xmp=xmp)
    with Image.open(tmp_path / "a.jpg") as picture:
        assert kept_rights(picture) == ""


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_resolution_is_kept(tmp_path, suffix):
    """Pixels an inch, for print."""
    Image.fromarray(IMAGE).save(tmp_path / "a.jpg", dpi=(300, 300))
    photo = read_photograph(tmp_path / "a.jpg")
    write_photograph(tmp_path / f"b{suffix}", photo.pixels, photo)
    with Image.open(tmp_path / f"b{suffix}") as again:
        assert [round(v) for v in again.info["dpi"]] == [300, 300]


def test_pages_beyond_the_first_are_told(tmp_path):
    """A scanner's TIFF."""
    pages = [Image.fromarray(IMAGE)] * 2
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert read_photograph(tmp_path / "a.tif").warnings == ("a TIFF of 2 images: only the first is used",)


def test_animations_are_upright_and_in_srgb(tmp_path):
    """As stills are."""
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.fromarray(np.roll(IMAGE, i, 1)) for i in range(3)]
    options = {"save_all": True, "append_images": frames[1:], "lossless": True, "duration": 40}
    frames[0].save(tmp_path / "a.webp", exif=exif, icc_profile=ADOBE_PROFILE, **options)
    video = open_animation(tmp_path / "a.webp")
    assert video.warnings == ("its colours become sRGB",)
    for i, frame in enumerate(video.frames):
        wanted = np.rot90(as_srgb(np.roll(IMAGE, i, 1), ADOBE_PROFILE), -1)
        assert frame.pixels.shape == wanted.shape
        assert np.abs(frame.pixels.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("plays", [0, 1, 3])
@pytest.mark.parametrize("source", [".gif", ".webp", ".png"])
@pytest.mark.parametrize("target", [".gif", ".webp"])
def test_an_animation_plays_as_often_as_its_source(tmp_path, plays, source, target):
    """Once, thrice, or for ever."""
    frames = [np.roll(IMAGE, 5 * i, 1) for i in range(3)]
    if source == ".png":
        images = [Image.fromarray(f) for f in frames]
        images[0].save(tmp_path / "a.png", save_all=True, append_images=images[1:], loop=plays, duration=50)
    else:
        write_animation(tmp_path / f"a{source}", frames, 50, plays=plays)
    video = open_animation(tmp_path / f"a{source}")
    assert video.plays == plays
    write_animation(tmp_path / f"b{target}", [f.pixels for f in video.frames], 50, plays=video.plays)
    assert open_animation(tmp_path / f"b{target}").plays == plays


def test_a_video_keeps_its_tags(tmp_path):
    """Title, author, time and place."""
    av = pytest.importorskip("av")
    frames = [VideoFrame(np.tile(IMAGE, (2, 2, 1)), Fraction(i, 10), Fraction(1, 10)) for i in range(3)]
    encode_mp4(tmp_path / "plain.mp4", iter(frames), {})
    tags = {
        "title": "T",
        "artist": "A",
        "copyright": "C",
        "creation_time": "2020-01-02T03:04:05.000000Z",
        "location": "+48.1000+011.5000/",
    }
    with av.open(str(tmp_path / "plain.mp4")) as given, av.open(str(tmp_path / "a.mov"), "w") as out:
        out.metadata.update(tags)
        track = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                packet.stream = track
                out.mux(packet)
    video = open_video(tmp_path / "a.mov")
    assert {k: video.tags.get(k) for k in tags} == tags
    encode_mp4(tmp_path / "b.mp4", video.frames, synthetic_metadata({"model": "x"}), video)
    again = open_video(tmp_path / "b.mp4")
    assert {k: again.tags.get(k) for k in tags} == tags
    assert read_metadata(tmp_path / "b.mp4")["Software"] == "latentrot"
    assert json.loads(again.history) == {"model": "x"}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_an_edit_of_an_edit_records_both(tmp_path, suffix):
    """And of all before."""
    Image.fromarray(IMAGE).save(tmp_path / "0.png")
    photo = read_photograph(tmp_path / "0.png")
    for i in range(3):
        metadata = synthetic_metadata({"step": i, **previous_edit(photo.history)})
        write_photograph(tmp_path / f"{i}{suffix}", photo.pixels, photo, metadata)
        photo = read_photograph(tmp_path / f"{i}{suffix}")
    told = json.loads(photo.history)
    assert [told["step"], told["earlier"]["step"], told["earlier"]["earlier"]["step"]] == [2, 1, 0]
    write_animation(
        tmp_path / "a.gif", [IMAGE, IMAGE // 2], 50, synthetic_metadata({"step": 3, **previous_edit(photo.history)})
    )
    assert json.loads(open_animation(tmp_path / "a.gif").history)["earlier"]["step"] == 2
    assert history_of({"Software": "another", "latentrot": "x"}) == ""


@pytest.mark.parametrize("degrees", [float("nan"), float("inf"), -200.0])
@pytest.mark.parametrize("rotator", [NothingRotator(), MirrorRotator()])
def test_invalid_degrees_are_refused(rotator, degrees):
    """By every rotator, alone and among many."""
    with pytest.raises(LatentrotError, match=f"a rotation by {degrees}"):
        rotator.rotate(IMAGE, degrees)
    with pytest.raises(LatentrotError, match=f"a rotation by {degrees}"):
        rotate_many(rotator, IMAGE, [0.0, degrees])


@pytest.mark.parametrize("degrees", [float("nan"), 120.0, -200.0])
def test_a_walk_by_no_degrees_is_refused(degrees):
    """Before anything is embedded."""
    from latentrot.rotators.latent.rotator import LatentRotator  # noqa: PLC0415

    rotator = LatentRotator(None, {})  # type: ignore[arg-type]
    with pytest.raises(LatentrotError, match="expected a number from -90 to 90"):
        rotator.rotate_many(IMAGE, [degrees])

"""The page as visitors meet it: the real command, driven in a real browser."""

import io
import os
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from latentrot.cli import main
from latentrot.data.images import read_image
from latentrot.errors import LatentrotError
from latentrot.faces.identity import load_identity

PORTRAIT = Path(__file__).parents[1] / "latentrot" / "bundled" / "astronaut.jpg"
SECONDS = 30_000  # playwright counts in milliseconds


@pytest.fixture(scope="module")
def identity_weights(tmp_path_factory):
    """Random weights in the layout of facenet-pytorch's published file, the names of its people included."""
    facenet = pytest.importorskip("facenet_pytorch", reason="finding faces needs facenet-pytorch")
    torch.manual_seed(0)
    network = facenet.InceptionResnetV1(pretrained=None)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(layer.weight)  # as it is made, every image gives nearly the same vector
    state = network.state_dict()
    path = tmp_path_factory.mktemp("identity") / "vggface2.pt"
    torch.save({**state, "logits.weight": torch.zeros(3, 512), "logits.bias": torch.zeros(3)}, path)
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory, port, identity_weights):
    """The page's address and the folder for temporary files its server was given."""
    if find_spec("gradio") is None:
        pytest.skip("the page needs gradio")
    temporary = tmp_path_factory.mktemp("server")
    server = subprocess.Popen(
        [sys.executable, "-m", "latentrot.cli", "app", "--port", str(port), "--device", "cpu", "--identity",
         str(identity_weights)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip
    try:
        said = server.stdout.readline()
        assert f"http://127.0.0.1:{port}" in said, said + server.stdout.read()
        yield f"http://127.0.0.1:{port}", temporary
    finally:
        server.send_signal(signal.SIGTERM)
        rest = server.communicate(timeout=20)[0]
    assert "Traceback" not in rest, rest
    assert list(temporary.glob("latentrot-*")) == []  # nothing a visitor gave outlives the server


@pytest.fixture
def visitor(browser, site):
    """Opens the page as a visitor of their own; notes every host asked for anything."""
    contexts, hosts = [], set()

    def visit():
        context = browser.new_context(viewport={"width": 1180, "height": 1000}, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SECONDS)
        page.on("request", lambda r: hosts.add(re.sub(r"^(data|blob):.*|\w+://([^/:]*).*", r"\2", r.url)))
        page.goto(site[0])
        page.wait_for_selector("#upload input[type=file]", state="attached")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert hosts <= {"", "127.0.0.1"}


def give(page, path):
    page.set_input_files("#upload input[type=file]", str(path))


def value(page, block, name):
    return page.locator(f"#{block} .values div", has_text=re.compile(f"^{name}")).locator("dd").inner_text()


def shown_face(page):
    """The yaw of the face on show, once there is one."""
    page.wait_for_selector("#measured .values")
    return float(value(page, "measured", "yaw").rstrip("°"))


def slide(page, degrees):
    """Move the slider; seconds from there to the new image in the page."""
    after = page.locator("#compare img").last
    old = after.get_attribute("src")
    began = time.monotonic()
    page.locator("#yaw input[type=range]").fill(str(degrees))
    page.wait_for_function(
        "old => { const all = document.querySelectorAll('#compare img'), last = all[all.length - 1];"
        " return last && last.src !== old && last.complete && last.naturalWidth > 0 }",
        arg=page.evaluate("s => new URL(s, location).href", old),
    )
    spent = time.monotonic() - began
    page.wait_for_function("asked => document.querySelector('#readout dd').innerText === asked", arg=f"{degrees:+d}°")
    return spent


def pixels(page, which):
    """One of the two images compared, as the browser got it."""
    source = page.locator("#compare img")
    element = source.first if which == "before" else source.last
    body = page.request.get(page.evaluate("s => new URL(s, location).href", element.get_attribute("src"))).body()
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB")).astype(float)


def test_a_slider_rotates_the_face(visitor, tmp_path):
    page = visitor()
    assert "127.0.0.1" in page.url
    page.click("#example")
    yaw = shown_face(page)
    assert abs(yaw) < 15
    spent = [slide(page, degrees) for degrees in (10, -10, 20)]
    print("slider to picture, seconds:", [round(s, 2) for s in spent])
    assert float(value(page, "readout", "turned").rstrip("°")) == pytest.approx(20, abs=8)
    assert float(value(page, "readout", "yaw now").rstrip("°")) == pytest.approx(
        yaw + float(value(page, "readout", "turned").rstrip("°")), abs=0.11
    )
    assert re.fullmatch(r"\d\.\d\d s", value(page, "readout", "delay"))
    assert -1 <= float(value(page, "readout", "identity")) <= 1
    assert pixels(page, "before").shape == pixels(page, "after").shape
    assert abs(pixels(page, "before") - pixels(page, "after")).max() > 40
    page.screenshot(path=str(tmp_path / "page.png"), full_page=True)
    assert page.locator("#readout .warning").count() == 0

    slide(page, -70)  # the whole head by geometry: no directions, no calibrated range
    assert "label network reads large yaws too low" in page.locator("#readout .warning").inner_text()

    slide(page, -30)
    assert "outside the calibrated range" in page.locator("#readout .warning").first.inner_text()
    walked, shown = pixels(page, "after"), page.locator("#compare img").last.get_attribute("src")
    page.locator("#rotator label", has_text="mesh").click()
    page.wait_for_function(
        "old => [...document.querySelectorAll('#compare img')].pop().getAttribute('src') !== old", arg=shown
    )
    page.wait_for_function("() => !document.querySelector('#readout .warning')")  # no lines, no reach
    assert abs(walked - pixels(page, "after")).max() > 10
    page.locator("#rotator label", has_text="latent").click()
    page.wait_for_selector("#readout .warning")

    with page.expect_download() as waiting:
        page.click("#save")
    turned = Image.open(waiting.value.path())
    assert turned.size == Image.open(PORTRAIT).size
    assert "synthetic" in turned.getexif()[0x010E]

    page.click("#sweep")
    page.wait_for_selector("#strip img")
    with page.expect_download() as waiting:
        page.click("#save-strip")
    strip = Image.open(waiting.value.path())
    assert strip.width > 9 * strip.height
    assert "synthetic" in strip.info["Description"]
    with page.expect_download() as waiting:
        page.click("#save-gif")
    gif = Image.open(waiting.value.path())
    assert (gif.format, gif.n_frames) == ("GIF", 16)
    page.screenshot(path=str(tmp_path / "swept.png"), full_page=True)
    assert "/tmp" not in page.inner_text("body")


def test_one_of_several_faces_and_its_light_can_be_chosen(visitor, tmp_path):
    portrait = Image.open(PORTRAIT).convert("RGB")
    both = Image.new("RGB", (portrait.width + 300, portrait.height), "white")
    both.paste(ImageOps.mirror(portrait.resize((300, 300))), (portrait.width, 100))
    both.paste(portrait, (0, 0))
    both.save(tmp_path / "both.png")
    page = visitor()
    give(page, tmp_path / "both.png")
    shown_face(page)
    assert value(page, "measured", "light, estimated") == "left"
    page.locator("#face label", has_text="2").click()  # the mirrored one
    page.wait_for_function("() => document.querySelector('#measured').innerText.includes('right')")
    page.locator("#light label", has_text="center").click()
    page.wait_for_function("() => document.querySelector('#measured').innerText.includes('center')")
    assert value(page, "measured", "light, as given") == "center"
    assert page.locator("#face input:checked").count() == 1


def png_that_claims(width, height):
    """A tiny file whose header announces a huge image."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def test_bad_uploads_are_refused_in_one_line_and_the_face_stays(visitor, tmp_path, site):
    page = visitor()
    page.click("#example")
    yaw = shown_face(page)
    bad = {
        "notes.png": (b"just some text", "not an image"),
        "huge.png": (png_that_claims(60_000, 60_000), "256 million pixels"),
        "large.png": (png_that_claims(17_000, 17_000), "256 million pixels"),
        "<b>none.png": (b"", "empty"),
    }
    for name, (content, words) in bad.items():
        path = tmp_path / name
        path.write_bytes(content)
        give(page, path)
        page.locator("#message .problem", has_text=name.removeprefix("<b>")).wait_for()
        line = page.locator("#message .problem").inner_text()
        assert words in line
        assert "\n" not in line
        assert "/" not in line
    (tmp_path / "notes.txt").write_text("just some text")
    give(page, tmp_path / "notes.txt")
    page.get_by_text("Invalid file type: notes.txt").first.wait_for()
    assert page.locator("#upload .error:visible").count() == 0
    plain = Image.new("RGB", (200, 200), "gray")
    plain.save(tmp_path / "grey.png")
    give(page, tmp_path / "grey.png")
    page.wait_for_function("() => document.querySelector('#message').innerText.includes('No face')")
    assert str(site[1]) not in page.inner_text("body")
    assert shown_face(page) == yaw
    slide(page, 5)
    assert page.locator("#message .problem").count() == 0
    give(page, tmp_path / "grey.png")  # the same file again, which the server stores under the same path
    page.locator("#message .problem", has_text="No face").wait_for()


def test_two_visitors_at_once_keep_their_own_faces(visitor, tmp_path, site):
    portrait = Image.open(PORTRAIT).convert("RGB")
    ImageOps.mirror(portrait).save(tmp_path / "mirrored.png")
    bright = portrait.point(lambda v: min(255, int(v * 0.6 + 90)))
    bright.save(tmp_path / "bright.png")
    pages = [visitor(), visitor()]
    for page, name in zip(pages, ("mirrored.png", "bright.png"), strict=True):
        give(page, tmp_path / name)
    for page in pages:
        shown_face(page)
    own = [pixels(page, "before") for page in pages]
    for page, degrees in zip(pages, (12, -12), strict=True):
        page.locator("#yaw input[type=range]").fill(str(degrees))
    for page, degrees in zip(pages, (12, -12), strict=True):
        page.wait_for_function(
            "asked => document.querySelector('#readout dd').innerText === asked", arg=f"{degrees:+d}°"
        )
    for page, picture, other in zip(pages, own, reversed(own), strict=True):
        assert np.array_equal(pixels(page, "before"), picture)
        after = pixels(page, "after")
        rim = [abs(after[:, :12] - p[:, :12]).mean() for p in (picture, other) if p.shape == after.shape]
        assert rim[0] < 3
        assert len(rim) == 1 or rim[1] > 10
    root = next(site[1].glob("latentrot-*"))
    for page in pages:
        page.context.close()
    deadline = time.monotonic() + 10
    # folders go while they are looked through, which os.walk passes over
    while any(names for folder, _, names in os.walk(root) if "visit-" in folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [p for p in root.rglob("*") if p.is_file() and p.stat().st_size] == []  # gone with the pages


def test_missing_gradio_is_reported_in_one_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "latentrot.app.page", raising=False)
    assert main(["app"]) == 2
    assert "pip install 'latentrot[page]'" in capsys.readouterr().err


def test_visits_are_separate_and_leave_no_files(tmp_path, identity_weights):
    pytest.importorskip("gradio")
    from latentrot.app.page import Page, required  # noqa: PLC0415
    from latentrot.rotators.latent.rotator import load_latent_rotator  # noqa: PLC0415

    root = tmp_path / "server"
    root.mkdir()
    page = Page({"latent": load_latent_rotator(device="cpu")}, root, load_identity(identity_weights), "cpu")
    portrait = Image.open(PORTRAIT).convert("RGB").crop((90, 40, 410, 360))
    who = {name: SimpleNamespace(session_hash=name) for name in ("ann", "bob")}
    given, shown = {}, {}
    for name, picture in (("ann", portrait), ("bob", ImageOps.mirror(portrait))):
        given[name] = root / f"{name}.png"
        picture.save(given[name])
        page.open_upload(str(given[name]), "auto", "latent", who[name])
    for name, degrees in (("ann", 12), ("bob", -12)):
        shown[name] = page.apply_sliders("latent", who[name], degrees, 0)
        assert "identity" in shown[name][page.result.readout]
    for name, other in (("ann", "bob"), ("bob", "ann")):
        before, after = (read_image(p).astype(int) for p in shown[name][page.result.compare])
        assert np.abs(before - after)[:, :12].mean() < 3  # nothing turns at the rim
        strange = read_image(shown[other][page.result.compare][1]).astype(int)
        assert strange.shape != after.shape or np.abs(strange - after).mean() > 10
        assert page.visits[name].folder in Path(shown[name][page.result.save]).parents
    turned = re.findall(r"turned</dt><dd>([+-][\d.]+)", shown["ann"][page.result.readout])
    assert float(turned[0]) == pytest.approx(12, abs=4)  # the curve's root, measured and found again
    page.close_page(who["ann"])
    assert not given["ann"].exists()
    assert given["bob"].exists()
    with pytest.raises(LatentrotError, match="no photograph"):
        required(page.visit(who["ann"]))
    page.close_page(who["ann"])
    page.close_page(who["bob"])
    assert [p for p in root.rglob("*") if p.is_file()] == []


def test_an_error_only_changes_the_message(tmp_path, caplog):
    """Gradio drops an answer that names a component which is not its event's, and the page no longer follows."""
    pytest.importorskip("gradio")
    from latentrot.app.page import Page  # noqa: PLC0415
    from latentrot.rotators.latent.rotator import load_latent_rotator  # noqa: PLC0415

    (tmp_path / "text.png").write_text("no picture")
    page, nobody = Page({"latent": load_latent_rotator(device="cpu")}, tmp_path), SimpleNamespace(session_hash="nobody")
    given = {
        "apply_sliders": ("latent", nobody, 5, 0), "make_sweep": ("latent", nobody, 5, 0),
        "open_upload": (str(tmp_path / "text.png"), "auto", "latent", nobody),
        "open_example": ("dusk", "latent", nobody),
    }  # fmt: skip
    outputs = {f.fn.__name__: set(f.outputs) for f in page.blocks.fns.values() if f.fn.__name__ in given}
    assert set(outputs) == set(given)
    for name, values in given.items():
        answer = getattr(page, name)(*values)
        assert set(answer) == {page.message}, name
        assert set(answer) <= outputs[name]
        assert re.fullmatch(r'<div class="problem" role="alert">[^<>]+</div>', answer[page.message])
        assert "The edit failed" not in answer[page.message], name
    page.visit(nobody).subject = object()  # whatever else goes wrong is a sentence, too
    assert "The edit failed" in page.apply_sliders("latent", nobody, 5, 0)[page.message]
    assert "Traceback" in caplog.text


def test_the_identity_network_distinguishes_faces(identity_weights, tmp_path, capsys):
    network = load_identity(identity_weights)
    face = read_image(PORTRAIT)[90:306, 150:366]
    assert network.similarity(face, face) == pytest.approx(1, abs=1e-5)
    assert network.similarity(face, face[::-1].copy()) < 0.999  # random weights tell little apart
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    (tmp_path / "cut.pt").write_bytes(identity_weights.read_bytes()[:5000])
    for name, words in (("other.pt", "InceptionResnetV1"), ("cut.pt", "download"), ("none.pt", "check the path")):
        assert main(["app", "--identity", str(tmp_path / name)]) == 2
        err = capsys.readouterr().err
        assert words in err
        assert err.count("\n") == 1


def test_a_port_out_of_range_is_refused(capsys):
    assert main(["app", "--port", "70000"]) == 2
    assert "70000" in capsys.readouterr().err

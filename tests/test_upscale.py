"""`--upscale`: a tiny network of a real architecture, from file to pasted photograph; and what is refused."""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from latentrot.cli import main
from latentrot.data.images import read_image, write_image
from latentrot.data.metadata import read_metadata
from latentrot.errors import LatentrotError
from latentrot.portrait.upscale import Upscaler, load_upscaler

spandrel = pytest.importorskip("spandrel", reason="--upscale needs spandrel")
PORTRAIT = Path(__file__).parents[1] / "latentrot" / "bundled" / "astronaut.jpg"


def esrgan(scale: int = 2, channels: int = 3) -> torch.nn.Module:
    """A small ESRGAN of random weights."""
    from spandrel.architectures.ESRGAN import ESRGAN  # noqa: PLC0415

    torch.manual_seed(0)
    return ESRGAN(in_nc=channels, out_nc=channels, num_filters=8, num_blocks=1, scale=scale).eval()


@pytest.fixture
def weights(tmp_path) -> Path:
    """An ESRGAN whose blocks do nothing and whose other layers hand on: it doubles every pixel, and makes it brighter."""
    net = esrgan()
    for name, values in net.state_dict().items():
        if ".sub." in name or name.endswith("bias"):
            values.zero_()
        else:
            torch.nn.init.dirac_(values)
    net.state_dict()["model.7.bias"].fill_(0.1)
    save_file(net.state_dict(), tmp_path / "tiny-esrgan.safetensors")
    return tmp_path / "tiny-esrgan.safetensors"


def face() -> np.ndarray:
    return read_image(PORTRAIT)[90:306, 150:366]


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_the_architecture_is_recognised_from_the_weights(tmp_path, scale, suffix):
    net, path = esrgan(scale), tmp_path / f"x{suffix}"
    if suffix == ".pth":
        torch.save({"params_ema": net.state_dict()}, path)  # as its authors publish it
    else:
        save_file(net.state_dict(), path)
    upscaler = load_upscaler(path, "cpu")
    assert upscaler.name == f"ESRGAN (x{suffix})"
    crop = np.array(Image.fromarray(face()).resize((48, 48)))
    with torch.no_grad():
        wanted = net(torch.from_numpy(crop).permute(2, 0, 1)[None] / 255)[0].clamp(0, 1).permute(1, 2, 0) * 255
    result = upscaler(crop)
    assert result.shape == (48 * scale, 48 * scale, 3)
    assert np.abs(result - wanted.numpy()).max() <= 0.51


class Portrait(torch.nn.Module):
    """Stands for a face network of 512 pixels: darkens what lies where eyes are expected in FFHQ's frame."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        assert x.shape[-2:] == (512, 512)
        out = x.clone()
        for column in (193, 319):
            out[..., 240 - 5 : 240 + 5, column - 5 : column + 5] = 0
        return out


def test_a_face_network_gets_its_own_frame():
    architecture = spandrel.architectures.ESRGAN.ESRGANArch()
    net = Portrait()
    network = spandrel.ImageModelDescriptor(
        net, net.state_dict(), architecture=architecture, purpose="FaceSR", tags=[], supports_half=False,
        supports_bfloat16=False, scale=1, input_channels=3, output_channels=3,
        size_requirements=spandrel.SizeRequirements(minimum=512),
    )  # fmt: skip
    crop = np.full((64, 64, 3), 200, np.uint8)
    crop[:, :32] = 100
    result = Upscaler(network, "portrait")(crop).astype(float)
    assert result.shape[0] == result.shape[1] == round(512 * 0.81)
    rows, columns = np.nonzero(result.mean(-1) < 30)
    unit = 128 / len(result)
    assert rows.mean() * unit + 57 == pytest.approx(111.9, abs=1)  # CelebA's eyes, in its own frame
    left = columns < len(result) / 2
    assert columns[left].mean() * unit + 25 == pytest.approx(69.6, abs=1)
    assert columns[~left].mean() * unit + 25 == pytest.approx(108.4, abs=1)


def test_the_turned_crop_is_restored_and_pasted(tmp_path, weights, capfd):
    asked = ["edit", str(PORTRAIT), "--fast", "--upscale", str(weights), "--json"]
    assert main([*asked, "--deg", "20", "--crop-only", "--out", str(tmp_path / "crop.png")]) == 0
    assert main([*asked, "--deg", "20", "--out", str(tmp_path / "pasted.png")]) == 0
    assert main([*asked, "--deg", "0", "--out", str(tmp_path / "same.png")]) == 0
    report = json.loads(capfd.readouterr().out.splitlines()[0])
    assert report["upscaled_by"] == "ESRGAN (tiny-esrgan.safetensors)"
    assert json.loads(read_metadata(tmp_path / "crop.png")["latentrot"])["upscaled_by"] == report["upscaled_by"]
    assert read_image(tmp_path / "crop.png").shape == (128, 128, 3)
    before, pasted, same = (read_image(p) for p in (PORTRAIT, tmp_path / "pasted.png", tmp_path / "same.png"))
    assert np.array_equal(before[:, 450:], pasted[:, 450:])
    assert np.abs(before.astype(int) - pasted).max() > 40
    assert np.abs(before.astype(int) - same).max() <= 1  # the network's own cast cancels
    assert main(["edit", str(PORTRAIT), "--fast", "--deg", "20", "--out", str(tmp_path / "plain.png")]) == 0
    assert np.abs(read_image(tmp_path / "plain.png").astype(int) - pasted).mean() < 1


class Run:
    def __reduce__(self):
        return print, ("code in a weights file has run",)


def broken(folder: Path) -> dict[str, str]:
    """Names of bad weights files, made in a folder, and a word their refusal holds."""
    state = esrgan().state_dict()
    cut = {k: v[:3] for k, v in state.items()}
    save_file(cut, folder / "cut-shapes.safetensors")
    save_file({"a": torch.zeros(3)}, folder / "stranger.safetensors")
    save_file(esrgan(channels=1).state_dict(), folder / "grey.safetensors")
    torch.save({"params": state, "run": Run()}, folder / "code.pth")
    torch.save([1, 2], folder / "list.pth")
    whole = (folder / "cut-shapes.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "cut.pth").write_bytes((folder / "code.pth").read_bytes()[:500])
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "empty.pth").write_bytes(b"")
    (folder / "noise.pth").write_bytes(np.random.default_rng(0).bytes(3000))
    (folder / "plain-pickle.pth").write_bytes(pickle.dumps(Run()))
    (folder / "weights.onnx").write_bytes(b"onnx")
    (folder / "folder.pth").mkdir()
    (folder / "loop.pth").symlink_to("loop.pth")
    return {
        "cut-shapes.safetensors": "cut-shapes", "stranger.safetensors": "does not know", "grey.safetensors": "channels",
        "code.pth": "could execute code", "list.pth": "no table", "cut.safetensors": "again", "cut.pth": "again",
        "empty.safetensors": "again", "empty.pth": "again", "noise.pth": "noise.pth", "plain-pickle.pth": "execute code",
        "weights.onnx": "unknown suffix", "folder.pth": "no weights file", "loop.pth": "no weights file",
        "nowhere.pth": "check the path", "nul\0.pth": "check the path",
    }  # fmt: skip


def test_bad_weights_are_one_line(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "face.png", face())
    for name, word in broken(tmp_path).items():
        before = sorted(tmp_path.iterdir())
        assert main(["edit", "face.png", "--crop", "--deg", "5", "--upscale", name, "--out", "o.png"]) == 2
        out, err = capfd.readouterr()
        assert out == "", name
        assert err.count("\n") == 1, err
        assert word in err, err
        assert sorted(tmp_path.iterdir()) == before


def test_a_missing_spandrel_says_how_to_get_it(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(LatentrotError, match=r"pip install 'latentrot\[upscale\]'"):
        load_upscaler(weights)


def test_a_network_that_enlarges_too_much_is_refused(weights):
    with pytest.raises(LatentrotError, match="smaller scale"):
        load_upscaler(weights, "cpu")(np.zeros((1200, 1200, 3), np.uint8))

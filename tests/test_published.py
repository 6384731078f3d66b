"""Models and data sets as people publish them: scales stated wrongly, parts left out, older names, other packings."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import save_latent_model, save_pixel_model, tiny_unet

from latentrot.cli import main
from latentrot.data.celeba import FaceFolder
from latentrot.diffusion.load import load_model
from latentrot.diffusion.solve import invert
from latentrot.diffusion.unet import UNet
from latentrot.errors import LatentrotError


@pytest.fixture(scope="module")
def latent_folder(tmp_path_factory) -> Path:
    """A latent diffusion pipeline with a VQ autoencoder."""
    return save_latent_model(tmp_path_factory.mktemp("latent"))


def images_like(model, n: int = 6) -> torch.Tensor:
    return torch.rand(n, 3, model.resolution, model.resolution, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_wrong_scale_is_measured_and_another_given(latent_folder, caplog):
    """The spread that the warning names leads to a scale that raises no doubt."""
    wrong = load_model(latent_folder, "cpu", scale=0.01)
    x = images_like(wrong)
    with caplog.at_level(logging.WARNING):
        z = wrong.first_stage.encode(x)
        wrong.first_stage.encode(x)
    assert len(caplog.records) == 1
    advised = float(caplog.records[0].getMessage().rsplit("--scale ", 1)[1])
    assert advised == pytest.approx(0.01 / float(z.std()), rel=0.01)
    caplog.clear()
    right = load_model(latent_folder, "cpu", scale=advised)
    assert float(right.first_stage.encode(x).std()) == pytest.approx(1, abs=0.02)
    assert not caplog.records
    assert right.fingerprint != wrong.fingerprint


def test_a_scale_without_an_autoencoder_is_refused(model_folder):
    """A model of pixels has nothing to scale."""
    with pytest.raises(LatentrotError, match=r"--scale 2: .* has no autoencoder"):
        load_model(model_folder, "cpu", scale=2.0)


@pytest.mark.parametrize("given", ["part", "pipeline"])
def test_an_autoencoder_may_come_from_elsewhere(latent_folder, tmp_path, given):
    """Its own folder, or a pipeline's; the same latents as the whole pipeline's."""
    part = next(latent_folder / n for n in ("vqvae", "vae") if (latent_folder / n).is_dir())
    bare = tmp_path / "bare"
    shutil.copytree(latent_folder, bare)
    shutil.rmtree(bare / part.name)
    index = json.loads((bare / "model_index.json").read_text())
    index.pop(part.name)
    (bare / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(LatentrotError, match="LDMPipeline without its autoencoder"):
        load_model(bare, "cpu")
    whole = load_model(latent_folder, "cpu")
    other = load_model(bare, "cpu", vae=part if given == "part" else latent_folder)
    x = images_like(whole, 2)
    assert torch.equal(invert(whole, x, steps=3), invert(other, x, steps=3))


def test_four_channels_without_an_autoencoder_name_the_option(tmp_path):
    """As `--vae`."""
    folder = save_pixel_model(tmp_path / "m")
    shutil.rmtree(folder / "unet")
    tiny_unet(4).save_pretrained(folder / "unet")
    with pytest.raises(LatentrotError, match=r"takes 4 channels.*pass its autoencoder with --vae FOLDER"):
        load_model(folder, "cpu")


def test_a_checkpoint_folder_names_the_part_to_use(tmp_path):
    """As accelerate leaves it: the newest averaged weights, and the finished pipeline where there is one."""
    run = tmp_path / "run"
    for number in (500, 5000):
        tiny_unet().save_pretrained(run / f"checkpoint-{number}" / "unet_ema")
        tiny_unet().save_pretrained(run / f"checkpoint-{number}" / "unet")
    with pytest.raises(
        LatentrotError, match=r"holds a training state, not a pipeline; copy .*checkpoint-5000/unet_ema as unet/"
    ):
        load_model(run, "cpu")
    save_pixel_model(run)
    with pytest.raises(LatentrotError, match=r"give .*run, the finished pipeline, or copy .*checkpoint-500/unet_ema"):
        load_model(run / "checkpoint-500", "cpu")


def test_a_byte_order_mark_is_accepted(model_folder, tmp_path):
    """Some editors leave one."""
    folder = tmp_path / "m"
    shutil.copytree(model_folder, folder)
    for path in folder.rglob("*.json"):
        path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert load_model(folder, "cpu").fingerprint == load_model(model_folder, "cpu").fingerprint


def test_names_of_2022_are_read_by_our_own_reader(tmp_path):
    """Attention's layers were called query, key, value and proj_attn."""
    folder = save_pixel_model(tmp_path / "m")
    today = load_model(folder, "cpu")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(path)
    renamed = {}
    for name, value in weights.items():
        for new, then in old.items():
            name = name.replace(f".{new}.", f".{then}.")  # noqa: PLW2901
        renamed[name] = value
    assert renamed.keys() != weights.keys()
    save_file(renamed, path, metadata={"format": "pt"})
    then = load_model(folder, "cpu")
    assert isinstance(then.unet, UNet)
    assert then.fingerprint == today.fingerprint


@pytest.mark.parametrize("packed", ["struct", "bytes"])
def test_a_parquet_export_is_unpacked(tmp_path, monkeypatch, capsys, packed):
    """As Hugging Face has CelebA: the same pixels, people and attributes."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (5, 218, 178, 3), np.uint8)
    contents = []
    for i, image in enumerate(images):
        Image.fromarray(image).save(f"{i}.png")
        contents.append(Path(f"{i}.png").read_bytes())
        Path(f"{i}.png").unlink()
    column = [{"bytes": c, "path": None} for c in contents] if packed == "struct" else contents
    table = pa.table({"image": column, "celeb_id": [7, 7, 8, 9, 9], "Male": [True, True, False, True, False]})
    Path("export/data").mkdir(parents=True)
    pq.write_table(table, "export/data/train-00000-of-00001.parquet")
    assert main(["label", "--data", "export", "--out", "l.csv"]) == 2
    assert "latentrot unpack export --out unpacked/" in capsys.readouterr().err
    assert main(["unpack", "export", "--out", "unpacked"]) == 0
    folder = FaceFolder(Path("unpacked"))
    assert all((np.asarray(folder.open_image(i)) == image).all() for i, image in zip(folder.ids, images, strict=True))
    assert folder.identities.tolist() == ["7", "7", "8", "9", "9"]
    assert folder.attributes is not None
    assert folder.attributes["Male"].tolist() == [1, 1, -1, 1, -1]
    assert main(["unpack", "export", "--out", "unpacked"]) == 2
    assert main(["unpack", "unpacked", "--out", "again"]) == 2

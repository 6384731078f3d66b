"""Every network runs where it is told to, and no tensor stays behind: tried on a GPU that is not there (see `elsewhere`)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from elsewhere import gpus, networks_run_on
from safetensors.torch import load_file
from tiny import SIZE, as_batch, gradients, write_pictures

from latentrot.bundles import PORTRAIT
from latentrot.cli import main
from latentrot.data.arrays import resize
from latentrot.data.images import read_image, write_image
from latentrot.data.similarity import psnr, ssim_map
from latentrot.devices import resolve_device
from latentrot.diffusion.load import load_model
from latentrot.diffusion.solve import Schedule, decode, invert
from latentrot.errors import LatentrotError
from latentrot.faces.detect import detect_faces
from latentrot.faces.estimate import estimate_light, estimate_pose
from latentrot.faces.framing import frame_face
from latentrot.faces.landmarks import estimate_landmarks
from latentrot.faces.light.propagate import light_features
from latentrot.faces.network import load_labeler
from latentrot.faces.parts import estimate_parts
from latentrot.store.latent_store import LatentStore
from latentrot.training import loop
from latentrot.training.backbone import TrainConfig, train
from latentrot.training.loop import accelerator_on

GPU = "gpu:1"


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """The bundled portrait, small enough to be quick."""
    return resize(read_image(PORTRAIT)[:500, :500], 250)


class TestPretence:
    def test_tensors_of_two_devices_do_not_mix(self):
        with gpus():
            for other in (torch.ones(3), torch.ones(3, device="gpu:0")):
                with pytest.raises(RuntimeError, match="same device"):
                    torch.ones(3, device=GPU) + other
            with pytest.raises((TypeError, RuntimeError)):
                torch.ones(3, device=GPU).numpy()
            assert str((torch.arange(3, device=GPU) * 2.0).device) == GPU

    def test_computes_what_the_cpu_does(self):
        x, layer = torch.randn(2, 3, 8, 8), torch.nn.Conv2d(3, 4, 3)
        wanted = layer(x)
        with gpus(), torch.no_grad():
            assert torch.equal(layer.to(GPU)(x.to(GPU)).cpu(), wanted)

    def test_the_simulated_device_is_absent_by_default(self):
        with gpus():
            assert str(resolve_device(GPU)) == GPU
        with pytest.raises(LatentrotError, match="not available"):
            resolve_device(GPU)


class TestEstimators:
    @pytest.mark.parametrize(("pictures", "network"), [(GPU, GPU), ("cpu", GPU), (GPU, "cpu"), ("gpu:0", GPU)])
    def test_a_label_network_on_another_device_than_the_image(self, pictures, network):
        x = as_batch(gradients(3, 64))
        wanted = estimate_pose(x), estimate_light(x), light_features(x)
        with gpus():
            there, labeler = x.to(pictures), load_labeler(device=network)
            pose, light = estimate_pose(there, labeler=labeler), estimate_light(there, labeler=labeler)
            assert str(pose.device) == str(light.device) == pictures
            for mine, his in zip((pose.cpu(), light.cpu()), wanted, strict=False):
                torch.testing.assert_close(mine, his)
            np.testing.assert_allclose(light_features(there, labeler), wanted[2], rtol=1e-5, atol=1e-5)

    def test_networks_that_look_at_a_photograph(self, photo):
        def look(device: str) -> list[np.ndarray]:
            face = detect_faces(photo, device)[0]
            alignment = frame_face(photo, face.landmarks, device)
            points = estimate_landmarks(photo, alignment, device=device).points
            return [
                face.landmarks,
                alignment.matrix,
                points,
                estimate_parts(photo, points, device=device).probabilities,
            ]

        wanted = look("cpu")
        with gpus(), networks_run_on() as seen:
            found = look(GPU)
        assert seen == {GPU}
        for mine, his in zip(found, wanted, strict=True):
            np.testing.assert_allclose(mine, his, rtol=1e-4, atol=1e-3)

    @pytest.mark.parametrize("measure", [psnr, ssim_map])
    def test_measures_of_images_on_two_devices(self, measure):
        a, b = (as_batch(gradients(2, 64, seed)) for seed in (0, 1))
        wanted = measure(a, b)
        with gpus():
            torch.testing.assert_close(measure(a.to(GPU), b).cpu(), wanted)
            torch.testing.assert_close(measure(a, b.to(GPU)), wanted)


class TestModels:
    @pytest.mark.parametrize("solver", ["corrected", "fixed-point", "exact", "ddim"])
    def test_inversion_and_decoding(self, plain_model, model_folder, solver):
        x, plan = as_batch(gradients(2)), Schedule(steps=4, solver=solver)
        z = invert(plain_model, x, schedule=plan, tolerance=1e-3)
        back = decode(plain_model, z, schedule=plan)
        with gpus(), networks_run_on() as seen:
            model = load_model(model_folder, GPU)
            torch.testing.assert_close(invert(model, x, schedule=plan, tolerance=1e-3), z, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(decode(model, z, schedule=plan), back, rtol=1e-3, atol=1e-3)
            assert model.fingerprint == plain_model.fingerprint
            assert str(model.labeler.device) == GPU
        assert seen == {GPU}


class TestCommands:
    """Whole commands with --device: nothing stays behind, all networks run there, and what is written is the same."""

    @pytest.fixture(scope="class")
    def faces(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_pictures(tmp_path_factory.mktemp("faces") / "faces", 12)

    def run(self, *words: object) -> set[str]:
        with gpus(), networks_run_on() as seen:
            assert main([*map(str, words), "--device", GPU]) == 0
        return seen

    def test_embed_and_fit(self, faces, model_folder, plain_model, tmp_path):
        store = LatentStore(tmp_path / "latents")
        command = ("embed", "--data", faces, "--model", model_folder, "--steps", 3, "--out")
        assert self.run(*command, store.root) == {GPU}
        assert main([*map(str, command), str(tmp_path / "cpu"), "--device", "cpu"]) == 0
        mine, his = (torch.cat([z for _, z in LatentStore(tmp_path / n).batches()]) for n in ("latents", "cpu"))
        torch.testing.assert_close(mine, his, rtol=1e-2, atol=1e-2)
        rows = {"image_id": store.image_ids(), "yaw_deg": np.linspace(30, -30, 12), "pitch_deg": 0.0, "roll_deg": 0.0}
        lights = {"light": "center", "p_left": 0.0, "p_center": 1.0, "p_right": 0.0, "confidence": 1.0}
        pd.DataFrame({**rows, **lights}).to_csv(tmp_path / "labels.csv", index=False)
        fit = ("fit-directions", "--latents", store.root, "--labels", tmp_path / "labels.csv", "--light", "center")
        assert self.run(*fit, "--calibrate", 2, "--out", tmp_path / "lines") == {GPU}

    def test_label(self, faces, tmp_path):
        assert self.run("label", "--data", faces, "--out", tmp_path / "gpu.csv") == {GPU}
        assert main(["label", "--data", str(faces), "--out", str(tmp_path / "cpu.csv"), "--device", "cpu"]) == 0
        mine, his = (pd.read_csv(tmp_path / f"{n}.csv") for n in ("gpu", "cpu"))
        np.testing.assert_allclose(mine["yaw_deg"], his["yaw_deg"], atol=1e-2)

    @pytest.mark.parametrize("options", [("--fast",), ("--rotator", "mesh")])
    def test_edit(self, photo, tmp_path, options):
        write_image(tmp_path / "photo.png", photo)
        out = tmp_path / "turned.png"
        assert self.run("edit", tmp_path / "photo.png", "--deg", 10, *options, "--out", out) == {GPU}
        assert main(["edit", str(tmp_path / "photo.png"), "--deg", "10", *options, "--out", str(tmp_path / "cpu.png"),
                     "--device", "cpu"]) == 0  # fmt: skip
        assert np.abs(read_image(out).astype(int) - read_image(tmp_path / "cpu.png")).mean() < 0.5

    def test_mesh(self, photo, tmp_path):
        write_image(tmp_path / "photo.png", photo)
        assert self.run("mesh", tmp_path / "photo.png", "--out", tmp_path / "head.glb") == {GPU}


class TestTraining:
    CONFIG = TrainConfig(
        steps=2, batch_size=2, resolution=SIZE, small_steps=0, channels=(16, 32), warmup=1, decay=1, held_out=0.0
    )

    def test_takes_the_device_it_is_told_one_run_after_another(self):
        with gpus():
            for device in (GPU, "gpu:0", "cpu", GPU):
                assert str(accelerator_on(device).device) == device

    def test_an_unknown_device_and_one_for_several_processes_are_refused(self, monkeypatch):
        with pytest.raises(LatentrotError, match="cuda:99"):
            accelerator_on("cuda:99")
        monkeypatch.setenv("LOCAL_RANK", "1")
        with pytest.raises(LatentrotError, match="its own device"):
            accelerator_on("cuda:1")

    def test_trains_there(self, tmp_path, monkeypatch):
        """All but the gradients: PyTorch's engine has no queue for a device that is not there."""
        data, losses = write_pictures(tmp_path / "faces", 4), []

        def backward(accelerator: Accelerator, loss: torch.Tensor) -> None:
            losses.append(str(loss.device))
            for model in accelerator._models:
                for i, parameter in enumerate(model.parameters()):
                    parameter.grad = torch.full_like(parameter, (-1.0) ** i)

        monkeypatch.setattr(Accelerator, "backward", backward)
        monkeypatch.setattr(loop, "precision_of", lambda _: "no")  # nor are there kernels to cast for
        train([data], tmp_path / "cpu", self.CONFIG, device="cpu")
        with gpus(), networks_run_on() as seen:
            train([data], tmp_path / "gpu", replace(self.CONFIG, steps=1), device=GPU)
            train([data], tmp_path / "gpu", self.CONFIG, device=GPU)  # goes on from the checkpoint
        assert seen == {GPU}
        assert losses == ["cpu", "cpu", GPU, GPU]
        mine, his = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("gpu", "cpu"))
        assert mine.keys() == his.keys()
        for key, value in his.items():
            torch.testing.assert_close(mine[key], value, rtol=1e-4, atol=1e-5)

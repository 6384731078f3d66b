"""The package's own U-Net and noise schedules against those of diffusers, which they must equal to rounding."""

import copy
import json
import pickle

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import edit_json, save_pixel_model, tiny_unet

from latentrot.diffusion.load import load_model, read_network
from latentrot.diffusion.noise import SCHEDULES, cumulative_products, load_noise
from latentrot.diffusion.unet import UNet, is_packable, is_supported, load_unet
from latentrot.errors import LatentrotError

#: every switch that is understood, in some combination
CONFIGS = {
    "one level": {"block_out_channels": (8,), "down": ("DownBlock2D",), "up": ("UpBlock2D",)},
    "two layers, own padding": {"layers_per_block": 2, "downsample_padding": 0},
    "no attention": {"add_attention": False},
    "attention at every level": {"down": ("AttnDownBlock2D",) * 2, "up": ("AttnUpBlock2D",) * 2, "attention_head_dim": None},
    "attention at the coarse level": {"down": ("DownBlock2D", "AttnDownBlock2D"), "up": ("AttnUpBlock2D", "UpBlock2D")},
    "sines first": {"flip_sin_to_cos": False, "freq_shift": 1, "time_embedding_dim": 24, "norm_eps": 1e-6},
    "groups of the attention": {"attn_norm_num_groups": 2, "out_channels": 5},
    "three levels": {"block_out_channels": (8, 16, 24), "down": ("DownBlock2D",) * 3, "up": ("UpBlock2D",) * 3},
}  # fmt: skip


def theirs(seed: int = 0, **changes: object) -> diffusers.UNet2DModel:
    torch.manual_seed(seed)
    given = {
        "sample_size": 8, "in_channels": 3, "out_channels": 3, "block_out_channels": (8, 16), "layers_per_block": 1,
        "norm_num_groups": 4, "attention_head_dim": 8, "down": ("DownBlock2D",) * 2, "up": ("UpBlock2D",) * 2,
    } | changes  # fmt: skip
    net = diffusers.UNet2DModel(down_block_types=given.pop("down"), up_block_types=given.pop("up"), **given)
    for p in net.parameters():  # norms too: at their ones and zeros a mistake in them would not show
        p.data += 0.1 * torch.randn_like(p)
    return net.eval().requires_grad_(False)


def ours(net: diffusers.UNet2DModel) -> UNet:
    own = UNet(net.config)
    own.load_state_dict(net.state_dict())
    return own.eval().requires_grad_(False)


def assert_close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_answers_are_those_of_diffusers(name, layout):
    net = theirs(**CONFIGS[name])
    assert is_supported(net.config)
    own, x = ours(net).to(memory_format=layout), torch.randn(3, 3, 8, 8)
    for level in (0, 371, torch.tensor(999)):
        assert_close(own(x.contiguous(memory_format=layout), level).sample, net(x, level).sample)


@pytest.mark.parametrize("bundle", ["faces64", "heads64"])
def test_bundled_models_answer_as_diffusers_does(bundle):
    model = load_model(bundle, "cpu")
    assert isinstance(model.unet, UNet)
    net = diffusers.UNet2DModel.from_pretrained(model.folder / "unet", torch_dtype=torch.float32).eval()
    x = torch.randn(2, *model.latent_shape)
    with torch.no_grad():
        assert_close(model.unet(x, 421).sample, net(x, 421).sample)


def test_the_digest_is_that_of_the_weights_whoever_reads_them(tmp_path):
    folder = save_pixel_model(tmp_path)
    model = load_model(folder, "cpu")
    before = model.digest
    model.velocity(torch.randn(1, *model.latent_shape), 5)  # and what is kept for the evaluations changes nothing
    del model.__dict__["digest"]
    net = diffusers.UNet2DModel.from_pretrained(folder / "unet")
    theirs_digest = type(model)(**{**vars(model), "unet": net}).digest
    assert model.digest == before == theirs_digest


def test_gradients_are_those_of_diffusers():
    net, x = theirs(), torch.randn(2, 3, 8, 8)
    found = []
    for each in (net, ours(net)):
        given = x.clone().requires_grad_()
        each(given, 500).sample.square().sum().backward()
        found.append(given.grad)
    torch.testing.assert_close(found[0], found[1], atol=2e-4, rtol=2e-4)


def test_bfloat16_is_no_worse_than_autocast():
    net, x = theirs(**CONFIGS["attention at the coarse level"]), torch.randn(4, 3, 8, 8)
    exact = net(x, 300).sample
    with torch.autocast("cpu", torch.bfloat16):
        errors = [(each(x, 300).sample.float() - exact).square().mean().sqrt() for each in (net, ours(net))]
    assert 0 < errors[1] < 1.5 * errors[0]


def test_weights_are_not_reordered_in_a_precision_that_the_processor_lacks(monkeypatch):
    """oneDNN refuses to reorder bfloat16 weights on processors with AVX2 only."""
    x = torch.randn(4, 3, 8, 8)
    for supported in (True, False):
        monkeypatch.setattr("latentrot.diffusion.unet.computes_bfloat16", lambda device, found=supported: found)
        assert is_packable(x)
        assert is_packable(x.bfloat16()) == supported
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert ours(theirs(**CONFIGS["attention at the coarse level"]))(x, 300).sample.isfinite().all()


def test_changed_weights_are_used():
    own, x = ours(theirs()), torch.randn(1, 3, 8, 8)
    own(x, 1)
    with torch.no_grad():
        own.conv_out.weight.zero_()
        own.conv_out.bias.zero_()
    assert not own(x, 1).sample.any()


@pytest.mark.parametrize("again", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_network_that_was_used_can_be_copied(again):
    own, x = ours(theirs()), torch.randn(1, 3, 8, 8)
    assert torch.equal(own(x, 1).sample, again(own)(x, 1).sample)


@pytest.mark.parametrize(
    "changes",
    [
        {"act_fn": "gelu"},
        {"center_input_sample": True},
        {"time_embedding_type": "fourier"},
        {"resnet_time_scale_shift": "scale_shift"},
        {"down": ("DownBlock2D", "ResnetDownsampleBlock2D")},
        {"downsample_type": "resnet", "down": ("AttnDownBlock2D",) * 2},
        {"num_class_embeds": 3},
        {"mid_block_type": None},
    ],
    ids=str,
)
def test_unsupported_networks_use_diffusers(changes, tmp_path):
    net = theirs(**changes)
    net.save_pretrained(tmp_path)
    read = read_network(tmp_path).eval()
    assert isinstance(read, diffusers.UNet2DModel)
    assert read.state_dict().keys() == net.state_dict().keys()


def test_older_names_of_weights_are_read(tmp_path):
    net = tiny_unet()
    net.save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(path)
    for new, old in older.items():
        weights = {k.replace(new, old): v for k, v in weights.items()}
    save_file(weights, path, metadata={"format": "pt"})
    own = load_unet(tmp_path, json.loads((tmp_path / "config.json").read_text()))
    assert own is not None
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        assert_close(own.eval()(x, 7).sample, net.eval()(x, 7).sample)


SCHEDULERS = {"DDIM": diffusers.DDIMScheduler, "DDPM": diffusers.DDPMScheduler, "PNDM": diffusers.PNDMScheduler}


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("zero_snr", [False, True])
def test_noise_schedules_are_those_of_diffusers_bit_for_bit(kind, schedule, zero_snr, tmp_path):
    if (schedule in ("sigmoid", "laplace") and kind != "DDPM") or (zero_snr and kind == "PNDM"):
        pytest.skip("diffusers has no such scheduler")
    extra = {"rescale_betas_zero_snr": True} if zero_snr else {}
    scheduler = SCHEDULERS[kind](beta_schedule=schedule, beta_start=0.0003, num_train_timesteps=100, **extra)
    folder = tmp_path / "scheduler"
    scheduler.save_pretrained(folder)
    alpha_bar, _, _ = load_noise(tmp_path, {})
    assert np.array_equal(alpha_bar, scheduler.alphas_cumprod.double().numpy())


def test_trained_betas_are_taken_as_they_are():
    betas = [0.1, 0.2, 0.3]
    scheduler = diffusers.DDIMScheduler(trained_betas=betas)
    assert np.array_equal(cumulative_products({"trained_betas": betas}), scheduler.alphas_cumprod.double().numpy())


def test_a_damaged_file_of_weights_is_named(tmp_path):
    folder = save_pixel_model(tmp_path)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(LatentrotError, match="cannot load its weights"):
        load_model(folder, "cpu")


def test_weights_of_another_shape_are_named(tmp_path):
    folder = save_pixel_model(tmp_path)
    edit_json(folder / "unet" / "config.json", block_out_channels=[16, 64])
    with pytest.raises(LatentrotError, match="cannot load its weights"):
        load_model(folder, "cpu")

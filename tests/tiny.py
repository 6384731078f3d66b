"""Tiny random diffusion models and images: seconds to make, in the real layouts."""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from PIL import Image

SIZE = 16
PIPELINES = {"ddim": (DDIMPipeline, DDIMScheduler), "ddpm": (DDPMPipeline, DDPMScheduler)}


def tiny_unet(channels: int = 3, size: int = SIZE, seed: int = 0) -> UNet2DModel:
    torch.manual_seed(seed)
    return UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=8,
        attention_head_dim=8,
    )


def save_pixel_model(
    folder: Path, prediction: str = "v_prediction", beta: str = "squaredcos_cap_v2", kind: str = "ddim", *,
    zero_snr: bool = False, seed: int = 0, patch: int = 1,
) -> Path:  # fmt: skip
    """A DDIM or DDPM pipeline folder, with a pixel-unshuffle first stage where patch > 1."""
    pipeline, scheduler = PIPELINES[kind]
    noise = scheduler(
        beta_schedule=beta, prediction_type=prediction, clip_sample=False, rescale_betas_zero_snr=zero_snr,
        timestep_spacing="trailing",
    )  # fmt: skip
    pipeline(unet=tiny_unet(3 * patch**2, SIZE // patch, seed), scheduler=noise).save_pretrained(folder)
    if patch > 1:
        (folder / "first_stage.json").write_text(json.dumps({"type": "pixel-unshuffle", "factor": patch}))
    return folder


def save_latent_model(folder: Path) -> Path:
    """An LDM pipeline folder: a VQModel that halves the image, a U-Net on its latents."""
    torch.manual_seed(1)
    VQModel(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=3,
        num_vq_embeddings=16,
        norm_num_groups=4,
        sample_size=SIZE,
        scaling_factor=0.5,
    ).save_pretrained(folder / "vqvae")
    tiny_unet(3, SIZE // 2).save_pretrained(folder / "unet")
    DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "LDMPipeline",
        "vqvae": ["diffusers", "VQModel"],
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def gradients(n: int, size: int = SIZE, seed: int = 0) -> np.ndarray:
    """(n, size, size, 3) uint8: smooth colour gradients, each another one."""
    rng = np.random.default_rng(seed)
    ends = rng.uniform(0, 255, (n, 2, 2, 3))
    t = np.linspace(0, 1, size)
    rows = ends[:, :1] * (1 - t)[None, :, None, None] + ends[:, 1:] * t[None, :, None, None]  # (n, h, 2, 3)
    x = rows[:, :, :1] * (1 - t)[None, None, :, None] + rows[:, :, 1:] * t[None, None, :, None]
    return x.round().astype(np.uint8)


def as_batch(pictures: np.ndarray) -> torch.Tensor:
    """Images as the models take them: (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def write_pictures(folder: Path, n: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(gradients(n)):
        Image.fromarray(picture).save(folder / f"{i:03d}.png")
    return folder


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Decibels, for values in [-1, 1]."""
    return float(10 * torch.log10(4 / ((a - b).double() ** 2).mean().clamp(min=1e-20)))


def save_image_variation(folder: Path, seed: int = 0) -> Path:
    """A latent diffusion pipeline with an image encoder, in the layout of StableDiffusionImageVariationPipeline."""
    from diffusers import StableDiffusionImageVariationPipeline  # noqa: PLC0415  it and what follows are an extra's
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection  # noqa: PLC0415

    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=SIZE, patch_size=8,
        projection_dim=12,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=SIZE // 2, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4, attention_head_dim=4, cross_attention_dim=12,
    )  # fmt: skip
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(8, 16),
        latent_channels=4, norm_num_groups=4, sample_size=SIZE,
    )  # fmt: skip
    StableDiffusionImageVariationPipeline(
        vae=vae,
        image_encoder=CLIPVisionModelWithProjection(vision),
        unet=unet,
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False),
        safety_checker=None,
        feature_extractor=CLIPImageProcessor(size=SIZE, crop_size=SIZE),
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder

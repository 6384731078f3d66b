"""Rendered heads: pictures of people who do not exist, whose pose, light and identity are known exactly."""

from latentrot.heads.geometry import HeadModel, load_head_model
from latentrot.heads.sample import TEST_SEED, Head, HeadConfig, mirror, sample_head, with_pose
from latentrot.heads.shade import Render, render

__all__ = [
    "TEST_SEED",
    "Head",
    "HeadConfig",
    "HeadModel",
    "Render",
    "load_head_model",
    "mirror",
    "render",
    "sample_head",
    "with_pose",
]
